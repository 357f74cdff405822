"""Two kinds of failure that cannot be confused: the kernel's, caught in one place, and the lab's own."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab.cli.main import app
from precision_lab.exceptions import InternalError, KernelError, UsageError, WrongTypeError
from precision_lab.implementations.guard import guarded

PACKAGE = Path(pl.__file__).parent
# Where everything is caught, and whose it is.
BROAD = {
    "implementations/guard.py": "the kernel's: the one place",
    "exceptions.py": "the lab's: out of a public function it comes as an InternalError",
    "cli/errors.py": "the lab's: exit code 3",
    "functions/from_formula.py": "a user's formula: it raises as a wrong formula",
    "functions/loading.py": "a user's file of functions: it raises as one that does not import",
    "verifying/kernel_process.py": "the lab's in a kernel's process, which says so to its parent",
    "running/own_process.py": "raised in the process that has asked this one",
    "emulator/device_table.py": "raised again, when the unfinished file is removed",
    "measuring/every_input.py": "raised again, when the other threads have stopped",
    "running/precompile.py": "raised again, when the other processes have ended",
    "system/atomic_file.py": "raised again, when the half-written file is gone",
    "system/children.py": "raised again in the parent",
    "system/warm_start.py": "the lab's in a forked process: told there, and it ends",
    "devices/cuda.py": "clocks that cannot be read are no failure",
    "lowprecision/probe/training.py": "a listener's, which must not end a training run",
}


class Everything(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), UsageError("no"), KeyError("no"), SystemExit(3), Everything("no"), OSError("no")],
)
def test_whatever_a_kernel_raises_is_a_kernel_error_with_its_words(error: BaseException) -> None:
    def kernel() -> None:
        raise error

    with pytest.raises(KernelError) as caught:
        guarded(kernel, "backward: ")
    assert caught.value.kind == "raised"
    assert str(caught.value).startswith(f"backward: {type(error).__name__}: ")
    assert "(test_guard.py, line" in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_missing_library_and_the_users_interrupt_are_no_faults_of_the_code() -> None:
    def imports() -> None:
        raise ImportError("install it")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KernelError, match="install it") as caught:
        guarded(imports)
    assert caught.value.kind == "missing_dependency"
    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)


def test_what_an_emulated_gpu_meets_of_the_labs_own_is_not_the_kernels_fault() -> None:
    """Its engines run under the kernel's call: where they differ, no kernel is to blame."""

    def launched() -> None:
        raise InternalError("the two engines differ", "")

    with pytest.raises(InternalError, match="the two engines differ"):
        guarded(launched)


def test_a_kernels_key_error_is_its_fault(tmp_path: Path) -> None:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        return {}["x"]

    with pytest.raises(KernelError, match="KeyError"):
        pl.measure(kernel, "relu", inputs=np.array([1.0]))
    verdict = pl.verify(kernel, "relu", fmts=("bf16",), properties=False)
    assert {fault.kind for fault in verdict.faults} == {"raised"}


@pytest.mark.parametrize("error", [KeyError("lost"), ValueError("lost"), RuntimeError("lost")])
def test_the_labs_own_trouble_is_never_the_kernels_nor_wrong_use(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("precision_lab.measuring.measure.finish", broken)
    for call in (
        lambda: pl.measure("torch", "relu", inputs=np.array([1.0])),
        lambda: pl.verify("torch", "relu", fmts=("bf16",), properties=False),
    ):
        with pytest.raises(InternalError, match=r"own trouble, not the kernel.s: .*lost") as caught:
            call()
        assert "test_guard.py" in caught.value.trace
        assert caught.value.__cause__ is error
    ran = CliRunner().invoke(app, ["verify", "torch", "--function", "relu", "--properties", "none"])
    assert ran.exit_code == 3
    assert "own trouble, not the kernel's" in ran.output


def test_wrong_use_stays_what_callers_expect() -> None:
    with pytest.raises(TypeError, match="missing a required argument"):
        pl.measure("torch")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not callable") as caught:
        pl.measure(3, "relu")
    assert isinstance(caught.value, WrongTypeError)
    with pytest.raises(ValueError, match="did you mean"):
        pl.measure("torch", "rellu")


def test_everything_is_caught_in_few_places_and_a_kernels_in_one() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kinds = ast.unparse(node.type) if node.type else "BaseException"
                if kinds in ("Exception", "BaseException"):
                    found.add(str(path.relative_to(PACKAGE)))
    assert found == set(BROAD)
