"""A verdict passes on evidence only: what was not examined is said, and does not pass."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from precision_lab.cli import main
from precision_lab.devices import CPU
from precision_lab.exceptions import InternalError
from precision_lab.implementations.contract import CallContract, read_shape
from precision_lab.results import Failure, Finding
from precision_lab.running.accepted_calls import find_contract
from precision_lab.verifying import verify as doors
from precision_lab.verifying.collect import collect
from precision_lab.verifying.loading import load
from precision_lab.verifying.make_plan import Request, make_plan
from precision_lab.verifying.plan import Examined, Measured
from precision_lab.verifying.properties import DEFAULT_PROPERTIES
from precision_lab.verifying.trial import Planned, events
from precision_lab.verifying.verify import assert_accurate, verify

SOURCE = """
import ctypes, os
import numpy as np
import torch

def relu(x):
    return torch.relu(x)

def rows_only(x):
    tokens, width = x.shape
    return torch.relu(x)

def of_eight(x):
    if x.numel() % 8:
        raise ValueError("a multiple of 8, please")
    return torch.relu(x)

def raises_at_a_view(x):
    if not x.is_contiguous():
        raise NotImplementedError("contiguous only")
    return torch.relu(x)

def no_nan(x):
    assert not torch.isnan(x).any()
    return torch.relu(x)

def off_by_some(x):
    y = torch.relu(x)
    return torch.where(y == 1.5, y + 0.0625, y)

def eight_off_by_some(x):
    return off_by_some(of_eight(x))

def on_arrays(x):
    return np.where(x == 1.5, x + x.dtype.type(0.0625), np.maximum(x, 0)).astype(x.dtype)

def vectors_are_off(x):
    y = torch.relu(x)
    return torch.where((torch.arange(x.numel()).reshape(x.shape) > 8) & (y == 1.5), y + 0.0625, y)

def few_are_off(x):
    return torch.relu(x) * (1.0625 if x.numel() < 64 else 1)

def odd_places_are_off(x):
    return off_by_some(x) if x.storage_offset() % 2 else torch.relu(x)

def looks_behind(x):
    behind = torch.as_strided(x, (1,), (1,), x.storage_offset() + x.numel() - 1 + (x.storage_offset() > 0))
    return torch.where(behind == 1000, off_by_some(x), torch.relu(x))

def dies_with_few(x):
    if x.numel() == 4095:
        ctypes.string_at(0)
    return torch.relu(x)

def ends_early(x):
    if x.numel() == 4097:
        os._exit(0)
    return torch.relu(x)

def forges(x):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'{"end": true}\\n')
        except OSError:
            pass
    return torch.relu(x)
"""


def relu(x):
    return torch.relu(x)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def run(*arguments: object):
    return CliRunner().invoke(main.app, [str(a) for a in arguments])


def plan(**options):
    given = {
        "fmts": ("bf16",), "outputs": None, "params": None, "inputs": None, "max_ulp": 1.0, "bound": None,
        "properties": ("strides",), "against": None, "compiled": False, "laws": False, **options,
    }  # fmt: skip
    return make_plan(Request(function="relu", **given))


def stream(chosen):
    return list(events(chosen, load(relu, chosen, framework=None, compiled=False, device=CPU)))


def altered(events_seen, **changes):
    """The events with every measurement changed."""
    return [
        dataclasses.replace(e, measurement=dataclasses.replace(e.measurement, **changes))
        if isinstance(e, Measured)
        else e
        for e in events_seen
    ]


# -- evidence -------------------------------------------------------------------------------------


def test_a_whole_stream_passes_and_every_part_of_it_is_needed() -> None:
    chosen = plan()
    whole = stream(chosen)
    assert collect(chosen, whole).outcome == "pass"
    parts = [e for e in whole if isinstance(e, Measured) or (isinstance(e, Examined) and e.examination)]
    assert len(parts) == 3
    for part in parts:
        lacking = collect(chosen, [e for e in whole if e is not part])
        assert lacking.outcome == "inconclusive"
        assert not lacking.passed
        assert "arrived" in lacking.reasons[0]
    assert collect(chosen, []).outcome == "inconclusive"
    assert collect(chosen, [Planned((), ())]).outcome == "inconclusive"


def test_a_measurement_of_no_inputs_is_none() -> None:
    chosen = plan(properties=())
    assert collect(chosen, altered(stream(chosen), n_inputs=0)).outcome == "inconclusive"


def test_undecided_inputs_are_no_fault_and_no_pass() -> None:
    chosen = plan(properties=())
    found = collect(chosen, altered(stream(chosen), undecided=3))
    assert (found.outcome, found.faults) == ("inconclusive", ())
    assert "undecided for 3 of 65536" in found.reasons[0]


def test_a_comparison_that_cannot_be_made_is_no_pass() -> None:
    chosen = plan(properties=(), max_ulp=None, against="torch")
    whole = stream(chosen)
    assert collect(chosen, whole).outcome == "pass"
    without = [e for e in whole if not (isinstance(e, Measured) and e.baseline)]
    assert collect(chosen, without).outcome == "inconclusive"
    failure = Failure("raised", "no such operator")
    failed = [
        dataclasses.replace(e, measurement=dataclasses.replace(e.measurement, failure=failure))
        if isinstance(e, Measured) and e.baseline
        else e
        for e in whole
    ]
    found = collect(chosen, failed)
    assert found.outcome == "inconclusive"
    assert "forward against torch [bf16, init]: no result of it to compare with" in found.reasons[0]


def test_laws_without_a_bound_are_not_examined_and_no_pass() -> None:
    chosen = plan(properties=(), laws=True)
    whole = stream(chosen)
    assert collect(chosen, whole).outcome == "pass"
    (laws,) = [e for e in whole if isinstance(e, Examined) and e.examination]
    assert collect(chosen, [e for e in whole if e is not laws]).outcome == "inconclusive"
    found = verify(relu, "relu", fmts=("bf16",), properties=False, laws=True, against="torch")
    assert found.outcome == "inconclusive"
    assert "no bound is given" in found.reasons[0]


def test_nothing_to_verify_is_wrong_use() -> None:
    with pytest.raises(ValueError, match="fmts is empty"):
        verify(relu, "relu", fmts=())
    with pytest.raises(ValueError, match="outputs is empty"):
        verify(relu, "relu", outputs=())


def test_a_child_that_ends_early_or_speaks_out_of_turn_does_not_pass(kernels: Path) -> None:
    early = verify(f"{kernels}:ends_early", "relu", fmts=("bf16",), properties=("determinism",))
    assert early.outcome == "fail"
    assert "ended with exit code 0 in the middle of its work" in early.failures[0]
    forged = verify(f"{kernels}:forges", "relu", fmts=("bf16",), outputs=("forward",), properties=False)
    assert {fault.kind for fault in forged.faults} == {"disturbs_report"}
    assert '{"end": true}' in forged.failures[0]


def test_named_and_random_parameters_are_measured_by_default() -> None:
    from precision_lab.functions import get_function

    sets = make_plan(Request(function="xielu", fmts=("bf16",), max_ulp=1.0, properties=False)).parameter_sets
    assert list(sets) == [*get_function("xielu").parameter_sets, "random-1", "random-2"]
    assert all(values["beta"] == 0.5 < values["alpha_n"] for n, values in sets.items() if "random" in n)
    fixed = verify(lambda x: torch.relu(x), "prelu", fmts=("bf16",), properties=False)
    assert {m.params_name for m in fixed.measurements} == {"init"}, "it is given no parameter"


# -- contracts ------------------------------------------------------------------------------------


def test_a_refusal_is_a_finding_and_everything_else_is_examined(kernels: Path) -> None:
    found = verify(f"{kernels}:of_eight", "relu", fmts=("bf16", "fp32"))
    assert {fault.kind for fault in found.faults} == {"refuses_lengths"}
    assert "a multiple of 8, please (kernels.py, line 15 in of_eight)" in found.failures[0]
    states = {e.property: e.state for e in found.examinations}
    assert set(states) == set(DEFAULT_PROPERTIES)
    assert set(states.values()) <= {"holds", "does not apply"}


def test_a_declared_contract_is_kept_and_said(kernels: Path) -> None:
    found = verify(f"{kernels}:of_eight", "relu", fmts=("bf16", "fp32"), multiple_of=8)
    assert found.outcome == "pass", found.failures
    assert "calls other than multiples of 8 elements" in found.left_out
    rows = verify(f"{kernels}:rows_only", "relu", fmts=("fp32",), shapes=((None, None),))
    assert rows.outcome == "pass", rows.failures
    undeclared = verify(f"{kernels}:rows_only", "relu", fmts=("fp32",))
    assert {fault.kind for fault in undeclared.faults} == {"refuses_shapes"}
    assert all(m.n_inputs > 10_000 for m in undeclared.measurements)


@pytest.mark.parametrize("multiple", [1, 2, 6, 8, 100, 1024, 65536])
def test_the_widest_contract_is_found(multiple: int) -> None:
    def attempt(shape):
        from precision_lab.exceptions import KernelError

        return KernelError("raised", "no") if shape[-1] % multiple else None

    found = find_contract(attempt)
    assert found is not None
    assert found.multiple_of % multiple == 0
    assert found.multiple_of < 4 * multiple


def test_shapes_of_a_contract_are_accepted_by_it() -> None:
    for contract in (
        CallContract(), CallContract(8), CallContract(12, ((None, None),)), CallContract(1, ((None, 96),)),
        CallContract(4, ((2, None, None),)), CallContract(1, ((3, 5),)),
    ):  # fmt: skip
        for n in (1, 7, 64, 1000, 4097, 65536):
            shape = contract.shape_for(n)
            assert shape is not None
            assert contract.accepts(shape)
            assert contract.shapes == ((3, 5),) or torch.empty(shape, device="meta").numel() >= n
    assert read_shape("*, 64") == (None, 64)
    with pytest.raises(ValueError, match="expected sizes with commas"):
        read_shape("64x64")
    with pytest.raises(ValueError, match="contradicts multiple_of=8"):
        CallContract(8, ((None, 12),))
    with pytest.raises(ValueError, match="multiple_of=0"):
        CallContract(0)


def test_finite_leaves_nan_and_infinities_out(kernels: Path) -> None:
    assert verify(f"{kernels}:no_nan", "relu", fmts=("bf16",), isolate=False).outcome == "fail"
    found = verify(f"{kernels}:no_nan", "relu", fmts=("bf16",), isolate=False, finite=True)
    assert found.outcome == "pass", found.failures
    assert found.measurements[0].n_inputs == 65536 - 256
    assert "finite: infinite and NaN inputs" in found.left_out


def test_what_does_not_fit_the_budget_is_said_and_inconclusive_only_if_asked() -> None:
    asked = verify(relu, "relu", fmts=("bf16",), properties=("sizes",), budget=0.0)
    assert asked.outcome == "inconclusive"
    assert "does not fit the budget of 0 s" in asked.reasons[0]
    with pytest.raises(ValueError, match="budget=-1"):
        verify(relu, "relu", budget=-1)


# -- names ----------------------------------------------------------------------------------------


def test_a_crash_names_the_call_and_not_the_modules(kernels: Path) -> None:
    (fault,) = verify(f"{kernels}:dies_with_few", "relu", fmts=("bf16",), properties=("lengths",)).faults
    assert "called with x of shape (4095,), contiguous" in fault.message
    assert "kernels.py, line 53" in fault.message
    assert len(fault.message) < 300


def test_what_a_kernel_raises_has_file_and_line(kernels: Path) -> None:
    (fault,) = verify(f"{kernels}:raises_at_a_view", "relu", fmts=("bf16",), properties=("strides",)).faults
    assert "NotImplementedError: contiguous only (kernels.py, line 20 in raises_at_a_view)" in fault.message


def test_a_plain_call_that_is_off_is_not_charged_to_the_strided_one() -> None:
    """F.gelu is inaccurate in vector lanes, which strided calls of it do not use."""
    found = verify(torch.nn.functional.gelu, "gelu", fmts=("bf16",), properties=("strides", "positions"))
    kinds = {fault.kind for fault in found.faults}
    assert "inaccurate" in kinds
    assert not kinds & {"misreads_strides", "depends_on_position"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("few_are_off", "depends_on_length"),
        ("odd_places_are_off", "depends_on_position"),
        ("looks_behind", "reads_outside"),
    ],
)
def test_only_what_lies_outside_is_called_that(kernels: Path, name: str, kind: str) -> None:
    found = verify(f"{kernels}:{name}", "relu", fmts=("bf16",), outputs=("forward",), properties=("memory",))
    assert {fault.kind for fault in found.faults} == {kind}, found.failures


# -- replays, pytest, exit codes --------------------------------------------------------------------


def test_every_printed_replay_reproduces(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kernels.parent)
    seen = set()
    for name in ("off_by_some", "vectors_are_off", "raises_at_a_view", "of_eight", "eight_off_by_some"):
        found = verify(f"kernels.py:{name}", "relu", fmts=("bf16",), isolate=False)
        seen |= {replayed(name, fault) for fault in found.faults if fault.replay}
    assert seen == {"explain", "verify"}


def replayed(name: str, fault: Finding) -> str:
    """The command of a fault's replay, which shows the same again."""
    words = shlex.split(fault.replay)
    result = run(*words[1:])
    assert result.exit_code == (1 if words[1] == "verify" else 0), result.output
    if words[1] == "verify":
        assert fault.kind in result.output
    else:
        row = next(line for line in result.output.splitlines() if line.startswith(f"{name} "))
        assert f"{fault.ulps:+.6g}" in row, (fault, row)
    return words[1]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("eight_off_by_some", {"multiple_of": 8}, "--multiple-of 8"),
        ("off_by_some", {"shapes": ((None, 64),)}, "--shape '*,64'"),
        ("on_arrays", {"framework": "numpy", "outputs": ("forward",)}, "--framework numpy"),
        ("off_by_some", {"compiled": True, "outputs": ("forward",)}, "--compiled"),
    ],
    ids=["multiple_of", "shape", "framework", "compiled"],
)
def test_a_replay_calls_the_kernel_as_it_was_called(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(kernels.parent)
    found = verify(f"kernels.py:{name}", "relu", fmts=("bf16",), isolate=False, properties=False, **options)
    faults = [fault for fault in found.faults if fault.replay]
    assert "inaccurate" in {fault.kind for fault in faults}
    for fault in faults:
        assert said in fault.replay
        replayed(name, fault)


def test_a_replay_asks_a_module_with_raw_parameters_for_what_it_was_asked_for() -> None:
    """α = 6.187 is no softplus of a bf16 number: what comes back for the effective value is another one."""
    pytest.importorskip("transformers")
    target = "transformers.activations:XIELUActivation"
    found = verify(target, "xielu", fmts=("bf16",), isolate=False, properties=False)
    others = [f for f in found.faults if f.params_name != "init" and f.kind in ("inaccurate", "wrong_sign")]
    assert {f.params_name for f in others} > {"random-1", "random-2"}
    for fault in [f for f in others if f.params_name.startswith("random")]:
        replayed("XIELUActivation", fault)


@pytest.mark.slow
def test_a_kernel_given_as_an_object_is_replayed_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(
        "import mine\nfrom precision_lab import assert_accurate\n\n"
        "def test_it():\n    assert_accurate(mine.off_by_some, 'relu', dtype='bf16')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "--kernel mine.py:off_by_some" in found.stdout
    assert "verdict.py" not in found.stdout, "a failure shows no lines of the lab"
    replay = next(line for line in found.stdout.splitlines() if "Replay: precision-lab explain" in line)
    words = shlex.split(replay.partition("Replay: ")[2].rstrip(". "))
    shown = subprocess.run(
        [sys.executable, "-m", "precision_lab", *words[1:]], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert any(line.startswith("off_by_some") for line in shown.stdout.splitlines()), shown.stdout


def test_pytest_and_the_command_check_the_same() -> None:
    found = assert_accurate(relu, "relu", dtype="bf16")
    assert found.properties == DEFAULT_PROPERTIES
    assert {m.output for m in found.measurements} == {"forward", "grad_x"}


def test_what_is_left_out_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert_accurate(relu, "relu", dtype="bf16", outputs=("forward",), properties=("lengths",))
    out = capsys.readouterr().out
    assert "left out: outputs: grad_x" in out
    assert "properties: determinism" in out


def test_all_hold_stands_alone(kernels: Path, tmp_path: Path) -> None:
    whole = ("verify", f"{kernels}:relu", "--function", "relu", "--budget", "30")
    result = run(*whole)
    assert result.exit_code == 0
    assert "not examined" in result.output or "engineering properties: all hold" in result.output
    partly = run(*whole[:4], "--properties", "lengths,strides")
    assert "all hold" not in partly.output
    assert "left out: properties:" in partly.output
    path = tmp_path / "precision.toml"
    path.write_text(
        'version = 1\n[relu.bf16]\naccepted = ["refuses_lengths"]\n[relu.bf16.forward]\nmax_ulp = 0.5\n'
        "[relu.bf16.grad_x]\nmax_ulp = 0.5\n",
        encoding="utf-8",
    )
    accepted = run("verify", f"{kernels}:of_eight", "--function", "relu", "--bound", path)
    assert accepted.exit_code == 0, accepted.output
    assert "all hold" not in accepted.output
    assert "accepted: relu[of_eight, bf16, init]: refuses_lengths" in accepted.output


def test_exit_codes(kernels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run("verify", f"{kernels}:relu", "--function", "relu", "--properties", "none").exit_code == 0
    assert run("verify", f"{kernels}:off_by_some", "--function", "relu").exit_code == 1
    budget = ("--properties", "sizes", "--budget", "0")
    path = tmp_path / "v.json"
    inconclusive = run("verify", f"{kernels}:relu", "--function", "relu", *budget, "--json", path)
    assert inconclusive.exit_code == 1
    assert "\ninconclusive: " in inconclusive.output
    assert "next: Give large calls more time (--budget SECONDS)" in inconclusive.output
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["outcome"] == "inconclusive"
    assert data["reasons"]
    assert run("verify", f"{kernels}:nothing", "--function", "relu").exit_code == 2

    def breaks(*_: object, **__: object) -> None:
        raise KeyError("a bug of ours")

    # In the door that the command calls, and in the command itself.
    for place in (f"{doors.__name__}.make_plan", "precision_lab.cli.print_verdict.print_verdict"):
        with monkeypatch.context() as patched:
            patched.setattr(place, breaks)
            broken = run("verify", f"{kernels}:relu", "--function", "relu", "--properties", "none")
        assert broken.exit_code == 3
        assert "the lab's own trouble" in broken.stderr
        file = Path(broken.stderr.rpartition("the traceback is in ")[2].strip())
        assert "a bug of ours" in file.read_text(encoding="utf-8")
        file.unlink()


def test_trouble_of_the_lab_in_the_kernels_process_is_not_the_kernels(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'precision_lab.verifying.kernel_process' in ' '.join(sys.orig_argv):\n"
        "    from precision_lab.implementations.contract import CallContract\n"
        "    CallContract.shape_for = None\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InternalError):
        verify(f"{kernels}:relu", "relu", fmts=("bf16",), properties=False)


# -- bounds ---------------------------------------------------------------------------------------


def test_writing_a_bound_never_loosens_without_being_told(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "precision.toml"
    common = ("--function", "relu", "--bound", path, "--write-bound", "--properties", "none")
    first = run("verify", f"{kernels}:relu", *common)
    assert first.exit_code == 0
    assert "new     relu.bf16.forward: max_ulp = 0.5" in first.output
    kept = path.read_bytes()
    worse = run("verify", f"{kernels}:off_by_some", *common)
    assert worse.exit_code == 1
    assert "looser  relu.bf16.forward: max_ulp 0.5 → 8" in worse.output
    assert path.read_bytes() == kept
    told = run("verify", f"{kernels}:off_by_some", *common, "--loosen")
    assert told.exit_code == 0
    assert path.read_bytes() != kept
    back = run("verify", f"{kernels}:relu", *common)
    assert back.exit_code == 0
    assert "tighter relu.bf16.forward: max_ulp 8 → 0.5" in back.output


# -- libraries ------------------------------------------------------------------------------------

C = """
#include <stddef.h>
#include <math.h>
#include <xmmintrin.h>
void plain(const float *x, float *y, size_t n) { for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0; }
void aligned(const float *x, float *y, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128 v = _mm_load_ps(x + i);
        _mm_store_ps(y + i, _mm_or_ps(_mm_max_ps(v, _mm_setzero_ps()), _mm_and_ps(_mm_cmpunord_ps(v, v), v)));
    }
    for (; i < n; i++) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0;
}
void beyond(const float *x, float *y, size_t n) { plain(x, y, n); y[n] = 0; }
"""  # noqa: E501


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or os.uname().machine != "x86_64":
        pytest.skip("a C compiler for x86-64 is missing")
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "k.c").write_text(C, encoding="utf-8")
    for name, flags in (("plain", []), ("fast", ["-ffast-math"])):
        command = [compiler, "-O2", *flags, "-shared", "-fPIC", "k.c", "-o", f"{name}.so", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
    return folder


def test_a_library_that_flushes_on_loading_is_the_kernels_fault(libraries: Path, tmp_path: Path) -> None:
    path = tmp_path / "loads.py"
    path.write_text(
        f"import ctypes, torch\nlib = ctypes.CDLL({str(libraries / 'fast.so')!r})\n"
        "def relu(x):\n    return torch.relu(x)\n",
        encoding="utf-8",
    )
    for target in (f"{libraries / 'fast.so'}:plain", f"{path}:relu"):
        result = run(
            "verify", target, "--function", "relu", "--format", "fp32", "--output", "forward",
            "--properties", "none",
        )  # fmt: skip
        assert result.exit_code == 1, result.output
        assert "alters_environment: [fp32" in result.output
        assert "loading it switched flushing on" in " ".join(result.output.split())
        assert "fp32  stratified" in result.output, "it is measured all the same"


def test_memory_off_a_boundary_and_beyond_the_end_is_looked_at(libraries: Path) -> None:
    common = {"fmts": ("fp32",), "outputs": ("forward",), "properties": ("positions", "memory")}
    assert verify(f"{libraries / 'plain.so'}:plain", "relu", **common).outcome == "pass"
    aligned = verify(f"{libraries / 'plain.so'}:aligned", "relu", **common)
    assert {fault.kind for fault in aligned.faults} == {"crashed"}
    assert "in aligned of plain.so, called with x of shape" in aligned.failures[0]
    beyond = verify(f"{libraries / 'plain.so'}:beyond", "relu", **common)
    assert {fault.kind for fault in beyond.faults} == {"writes_outside"}


def test_added_parameters_that_a_module_cannot_have_are_left_out_and_said() -> None:
    from precision_lab.kernels import XIELU

    found = verify(XIELU, "xielu", fmts=("bf16",), max_ulp=0.51, properties=False)
    assert found.outcome == "pass", found.failures
    (reason,) = {g.reason for g in found.not_examined if g.params_name == "rootless"}
    assert "cannot be given these parameters: ValueError: alpha_n=0.4" in reason
    asked = verify(XIELU, "xielu", fmts=("bf16",), properties=False, params={"alpha_n": 0.4})
    assert {fault.kind for fault in asked.faults} == {"raised"}


class Kernels:
    @staticmethod
    def inner(x):
        return torch.relu(x)


def test_an_attribute_of_an_attribute_is_a_target(kernels: Path, tmp_path: Path) -> None:
    from precision_lab.implementations.adapters.target import load_target

    file = tmp_path / "nested.py"
    file.write_text("class Outer:\n    class Inner:\n        value = 3\n", encoding="utf-8")
    assert load_target(f"{file}:Outer.Inner.value") == 3
    with pytest.raises(ValueError, match=r"has no attribute 'Outer\.Inner\.other'"):
        load_target(f"{file}:Outer.Inner.other")


def test_only_what_a_command_can_reach_has_a_target() -> None:
    """A lambda, a function within a function and an object that its name no longer means have none."""
    from precision_lab.implementations.adapters.target import target_of

    def local(x):
        return x

    replaced = SimpleNamespace(__qualname__="Kernels.inner", __module__=__name__)
    assert target_of(lambda x: x) == target_of(local) == target_of(replaced) == ""
    assert target_of(Kernels.inner).endswith("test_evidence.py:Kernels.inner")
    assert target_of(relu).endswith("test_evidence.py:relu")
