"""Where arithmetic is altered, nothing of the lab's is compiled, loaded or kept for others."""

from __future__ import annotations

import ast
import inspect
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from altered_arithmetic import NEEDS_UPWARD, ROUND_UPWARD, switched

import precision_lab
from precision_lab import exceptions
from precision_lab.exceptions import EnvironmentAltersResultsError
from precision_lab.functions.basis import BASIS
from precision_lab.numeric.jit import entry
from precision_lab.oracle.piecewise_compiler import compile_table
from precision_lab.system import ieee
from precision_lab.system.cache_files import read_checked, write_checked

FLUSH = "import torch\nassert torch.set_flush_denormal(True)\n"
ALTERED = pytest.mark.parametrize("altered", ["flushing", "upward"], indirect=True)


@pytest.fixture
def altered(request: pytest.FixtureRequest) -> Iterator[str]:
    with switched(request.param):
        yield request.param


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables of a process in which nothing has been compiled yet."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    own = {"PRECISION_LAB_CACHE": str(tmp_path / "lab"), "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    return {**os.environ, **own}


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


def kept(environment: dict[str, str]) -> list[Path]:
    """What Python has compiled of the lab's."""
    return [p for p in Path(environment["PYTHONPYCACHEPREFIX"]).rglob("*.pyc") if "precision_lab" in p.parts]


def shifted(x: float) -> float:
    return x + 2.0**-1074


def test_powers_of_two_are_what_they_say() -> None:
    for exponent in (-1074, -1023, -1022, -1, 0, 1, 1000, 1023):
        assert ieee.power_of_two(exponent) == 2.0**exponent


@ALTERED
def test_altered_arithmetic_is_seen(altered: str) -> None:
    assert ieee.flushes() == ("outputs and inputs" if altered == "flushing" else "")
    assert ieee.rounds_to_nearest() == (altered == "flushing")
    said = "flushes subnormal outputs and inputs" if altered == "flushing" else "does not round to nearest"
    with pytest.raises(EnvironmentAltersResultsError, match=f"{said}.*[.;] ?.*Nothing was measured"):
        ieee.require()


@ALTERED
def test_nothing_is_compiled_or_kept_for_others(altered: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))

    with pytest.raises(EnvironmentAltersResultsError, match="The oracle was not compiled"):
        entry(shifted)(1.0)
    with pytest.raises(EnvironmentAltersResultsError, match="No table of sigmoid was made"):
        compile_table(BASIS["sigmoid"], 1, False)
    write_checked(tmp_path / "one", "key", b"content")
    assert list(tmp_path.iterdir()) == []


def test_what_was_refused_is_made_once_arithmetic_is_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))

    function = entry(shifted)
    with switched("flushing"), pytest.raises(EnvironmentAltersResultsError):
        function(0.0)
    assert function(0.0) == 2.0**-1074
    write_checked(tmp_path / "one", "key", b"content")
    assert read_checked(tmp_path / "one", "key") == b"content"


@pytest.mark.parametrize(
    "alter", [FLUSH, pytest.param(ROUND_UPWARD, marks=NEEDS_UPWARD)], ids=["flushing", "upward"]
)
def test_no_module_is_loaded_by_altered_arithmetic(alter: str, clean: dict[str, str]) -> None:
    code = (
        "import precision_lab\n"
        "from precision_lab.exceptions import EnvironmentAltersResultsError\n"
        "for name in ('formats', 'numeric.jit', 'scoring.tile', 'verifying', 'cli', 'running.selfcheck'):\n"
        "    try:\n"
        "        __import__('precision_lab.' + name)\n"
        "    except EnvironmentAltersResultsError as error:\n"
        "        assert 'precision_lab.' + name.split('.')[0] in str(error), error\n"
        "    else:\n"
        "        raise SystemExit(name)\n"
        "try:\n"
        "    precision_lab.measure('naive', 'xielu', fmt='bf16')\n"
        "except EnvironmentAltersResultsError:\n"
        "    print('refused')\n"
    )
    done = python(clean, "-c", alter + code)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    assert {path.name.partition(".")[0] for path in kept(clean)} == {"__init__", "exceptions", "ieee"}


def test_what_is_loaded_in_any_case_has_no_numbers_that_arithmetic_makes() -> None:
    for module in (precision_lab, ieee, exceptions, "precision_lab/__main__.py"):
        root = Path(precision_lab.__file__).parents[1]
        source = (root / module).read_text("utf-8") if isinstance(module, str) else inspect.getsource(module)
        for node in ast.walk(ast.parse(source)):
            value = getattr(node, "value", None)
            assert not isinstance(value, float) or 2 * value == int(2 * value), ast.unparse(node)
            assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)), ast.unparse(node)


def test_a_kernel_that_flushes_leaves_no_number_behind_for_the_next_process(clean: dict[str, str]) -> None:
    code = (
        "import torch, precision_lab as pl\n"
        "def kernel(x):\n"
        "    torch.set_flush_denormal(True)\n"
        "    return torch.relu(x)\n"
        "how = {'outputs': ('forward',), 'properties': False, 'laws': True}\n"
        "verdict = pl.verify(kernel, 'relu', fmts=('bf16',), **how)\n"
        "print(*{fault.kind for fault in verdict.faults if 'the laws were' in fault.message})\n"
    )
    del clean["PRECISION_LAB_CACHE"]  # a minute's work that has nothing to do with it
    done = python(clean, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alters_environment\n"
    files = kept(clean)
    assert len(files) > 50
    for path in files:
        source = Path("/", path.relative_to(clean["PYTHONPYCACHEPREFIX"]))
        source = source.with_name(source.name.partition(".")[0] + ".py")
        whole = compile(source.read_text("utf-8"), source, "exec", dont_inherit=True)
        assert path.read_bytes()[16:] == marshal.dumps(whole) or constants(
            marshal.loads(path.read_bytes()[16:])
        ) == constants(whole), source


def constants(code) -> list[str]:  # type: ignore[no-untyped-def]
    """Of a compiled module, in the order in which they stand there."""
    found = []
    for value in code.co_consts:
        found += constants(value) if hasattr(value, "co_consts") else [repr(value)]
    return found


@NEEDS_UPWARD
def test_the_command_says_why_it_does_nothing(clean: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ROUND_UPWARD, encoding="ascii")
    clean["PYTHONPATH"] = str(tmp_path)
    done = python(clean, "-m", "precision_lab", "selfcheck")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("precision-lab: this process does not round to nearest. precision_lab.cli ")
