"""Kernels on an emulated GPU, through every door: what their compiler made of them is what is judged."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulation import require
from typer.testing import CliRunner

import precision_lab
from precision_lab.cli.main import app
from precision_lab.exceptions import UsageError
from precision_lab.results.conformity import CERTIFIED, DEPENDS
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import standing
from precision_lab.verifying.pytest_plugin import _become
from precision_lab.verifying.verdict import Verdict

require("triton")

FILE = Path(__file__).parents[1] / "helpers" / "gpu_kernels.py"


def verify(name: str, function: str = "relu", **options: Any) -> Verdict:
    given = {"fmts": ("bf16",), "outputs": ("forward",), "properties": False, "device": "sm_90", **options}
    target = name if " " in name else f"{FILE}:{name}"
    return precision_lab.verify(target, function, **given)  # type: ignore[no-any-return]


def test_a_users_file_runs_unchanged_and_passes() -> None:
    verdict = verify("relu")
    assert verdict.passed, verdict.failures or verdict.reasons
    assert verdict.measurements[0].device == "sm_90" and verdict.measurements[0].n_inputs == 65536
    assert verify("allocates_on_cuda", device="sm_80").passed


def test_an_output_with_an_operator_of_torchs_is_not_examined() -> None:
    """The backward multiplies by itself: forward is judged, d/dx is not."""
    verdict = verify("relu", outputs=("forward", "grad_x"), properties=("upstream", "grad_mode"))
    assert verdict.outcome == "inconclusive"
    (reason,) = verdict.reasons
    assert "not_emulated" in reason and "mul" in reason and "grad_x" in reason
    states = {e.property: (e.state, e.reason) for e in verdict.examinations}
    assert states == {"upstream": ("does not apply", "no d/dx is examined"), "grad_mode": ("holds", "")}


def test_what_only_calls_torch_is_refused() -> None:
    verdict = verify("eager", properties=("lengths",))
    assert verdict.outcome == "inconclusive" and "relu" in verdict.reasons[0]
    (lengths,) = verdict.examinations
    assert lengths.state == "not examined" and "torch's operator relu" in lengths.reason


def test_an_access_out_of_bounds_is_named_with_its_line() -> None:
    verdict = verify("unmasked")
    assert [fault.code for fault in verdict.faults] == ["out_of_bounds"]
    line = next(
        n for n, text in enumerate(FILE.read_text().splitlines(), 1) if "if MASKED else tl.load" in text
    )
    assert f"gpu_kernels.py:{line}" in verdict.faults[0].message


def test_results_that_nobody_wrote_and_reads_of_such_memory_are_faults() -> None:
    """By a launch of too few threads, and by an operator of torch's."""
    (fault,) = verify("leaves_the_last").faults
    assert fault.code == "unwritten_read"
    assert "nobody has written 1 of 65536 elements, the first is number 65535" in fault.message
    (fault,) = verify("sums_too_much", outputs=("forward", "grad_x")).faults
    assert fault.code == "unwritten_read" and fault.output == "grad_x" and "sum of torch" in fault.message


def test_elements_that_only_calls_of_some_lengths_leave_unwritten_are_faults() -> None:
    """All inputs in one call are whole blocks; a property's plain call is not, or other lengths are not."""
    verdict = verify("rounded_down", outputs=("forward", "grad_x"), properties=("lengths",))
    forward, gradient = verdict.measurements
    assert forward.failure is None and gradient.failure is not None
    fault = next(fault for fault in verdict.faults if fault.code == "unwritten_read")
    assert "in a plain call: forward: nobody has written 1 of 4097 elements" in fault.message
    assert fault.replay.endswith("--properties lengths --output forward --output grad_x --device sm_90")
    verdict = verify("backward_rounded_down", outputs=("forward", "grad_x"), properties=("lengths",))
    (fault,) = verdict.faults
    assert fault.code == "unwritten_read" and "a gradient: nobody has written" in fault.message
    (fault,) = verify("nothing_for_few", properties=("lengths",)).faults
    assert fault.code == "unwritten_read" and "in a call of 1 elements: forward: nobody" in fault.message


def test_engineering_properties_hold_of_a_right_kernel() -> None:
    """Its tensors lie in the device's memory, also where a host would protect pages around them."""
    names = ("unwritten", "memory", "strides", "arguments_kept", "results_kept", "upstream")
    verdict = verify("trained", outputs=("forward", "grad_x"), properties=names)
    assert verdict.passed, verdict.failures or verdict.reasons
    assert {e.property: e.state for e in verdict.examinations} == dict.fromkeys(names, "holds")
    assert verdict.not_examined == ()


def test_every_configuration_of_an_autotuned_kernel_is_judged() -> None:
    verdict = verify("tuned")
    assert len(verdict.measurements) == 2
    assert verdict.outcome == "fail"
    assert {fault.implementation for fault in verdict.faults} == {"tuned (tuned_kernel: BLOCK: 512, LESS: 1)"}
    (found,) = verdict.examinations
    assert (found.property, found.state, found.reason) == ("configurations", "broken", "2 of them")


def test_configurations_that_give_the_same_are_told_once() -> None:
    verdict = verify("tuned_alike")
    assert verdict.passed and len(verdict.measurements) == 1
    (found,) = verdict.examinations
    assert (found.property, found.state, found.reason) == ("configurations", "holds", "2 of them")


def test_what_a_device_may_return_decides_a_verdict() -> None:
    """Of the stable kernel nothing depends on it; of the naive one 14,471 inputs do."""
    (stable,) = verify("stable [operator]", "xielu", params={"init": {}}).measurements
    assert stable.conformity is not None and stable.conformity.varying == 0
    assert stable.conformity.combinations == 7
    assert standing(stable, Bound(0.51)) == CERTIFIED
    naive = verify("naive [triton]", "xielu", params={"init": {}})
    (measured,) = naive.measurements
    assert measured.conformity is not None and measured.conformity.varying == 14471
    assert naive.outcome == "fail"  # at some input every allowed result is wrong
    silu = verify("silu", "silu").measurements[0]
    assert silu.conformity is not None and silu.conformity.varying > 0
    assert standing(silu, Bound(silu.max_ulp, wrong_sign=9, nonfinite=9)) in (CERTIFIED, DEPENDS)


def test_measure_search_and_assert_accurate_hand_the_kernel_over() -> None:
    found = precision_lab.measure("naive [triton]", "xielu", fmt="bf16", device="sm_90")
    assert found.device == "sm_90" and found.max_ulp > 1
    worst = precision_lab.search.search(
        "naive [triton]", "xielu", fmt="bf16", evaluations=512, device="sm_90"
    )
    assert worst.max_ulp > 1
    with pytest.raises(AssertionError, match="inaccurate"):
        precision_lab.assert_accurate(
            "naive [triton]",
            "xielu",
            dtype="bf16",
            params={"init": {}},
            outputs=("forward",),
            properties=False,
            device="sm_90",
        )
    with pytest.raises(UsageError, match=r"cannot find <function .*<lambda>"):
        precision_lab.measure(lambda x: x, "relu", device="sm_90")


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "xielu", "--bits", "0xb58d", "--kernel", f"{FILE}:relu", "--device", "sm_90"],
        ["sweep", "elu", "--implementation", "naive [triton]", "--format", "bf16", "--output", "forward",
         "--device", "sm_100", "--emulator", "fast"],
        ["verify", "naive [triton]", "--function", "elu", "--format", "bf16", "--output", "forward",
         "--properties", "none", "--device", "sm_90", "--emulator", "reference", "--json", "-"],
    ],
    ids=lambda c: c[0],
)  # fmt: skip
def test_commands_take_the_device(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECISION_LAB_EMULATOR", "fast")  # put back, whatever the option says
    result = CliRunner().invoke(app, command)
    assert result.exit_code in (0, 1), result.output
    if command[0] == "verify":
        data = json.loads(result.stdout)
        assert data["measurements"][0]["device"] == "sm_90"
        assert data["measurements"][0]["environment"]["emulator"] == "reference"
    else:
        assert "naive" in result.output


@pytest.mark.parametrize(
    ("device", "words"),
    [("sm_999", "no compiler at hand knows it"), ("sm_70", "sm_75 to sm_121 are emulated")],
)
def test_a_target_that_no_compiler_knows_is_refused(device: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        precision_lab.measure("naive [triton]", "elu", device=device)


def test_an_engine_for_a_device_that_needs_none_is_refused() -> None:
    result = CliRunner().invoke(app, ["verify", "naive", "--function", "elu", "--emulator", "fast"])
    assert result.exit_code == 2 and "is not emulated" in result.output


def test_a_table_needs_a_device(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    command = ["device-table", "ex2.approx.f32", "--out", str(tmp_path / "ex2.table")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "CUDA" in result.output and result.output.count("\n") == 1


def test_how_a_kernel_is_launched_may_be_said_on_the_command_line(tmp_path: Path) -> None:
    """Where its file does not say it; what finds the kernel again says it, too."""
    lines = FILE.with_name("silu_in_bf16.ptx").read_text(encoding="utf-8").splitlines()
    file = tmp_path / "a kernel.ptx"
    file.write_text("\n".join(line for line in lines if "precision_lab:" not in line), encoding="utf-8")
    command = [
        "verify", f"{file}:silu", "--function", "silu", "--format", "bf16", "--device", "sm_90",
        "--output", "forward", "--properties", "none", "--json", "-",
    ]  # fmt: skip
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "or with --launch" in refused.output
    result = CliRunner().invoke(app, [*command, "--launch", "silu(x, y, n) block=64 format=bf16"])
    assert result.exit_code == 1
    finding = next(f for f in json.loads(result.stdout)["findings"] if f["code"] == "inaccurate")
    again = CliRunner().invoke(app, shlex.split(finding["replay"])[1:])
    assert again.exit_code == 0, again.output
    row = next(line.split() for line in again.output.splitlines() if line.startswith("silu "))
    assert row[:2] == ["silu", "cuda"] and row[3] == finding["witness"]["computed_bits"]


@pytest.mark.parametrize(
    "command",
    [
        ["verify", f"{FILE}:relu", "--function", "relu"],
        ["explain", "relu", "--bits", "0x3f80", "--format", "bf16", "--kernel", "math:exp"],
        ["sweep", "elu", "--implementation", "naive", "--format", "bf16"],
    ],
    ids=lambda c: c[0],
)
def test_only_cuda_kernels_are_launched(command: list[str]) -> None:
    for launch, words in (("x, y, n", "is no kernel of a .cu or .ptx file"), (" ", "expected how a kernel")):
        result = CliRunner().invoke(app, [*command, "--launch", launch])
        assert result.exit_code == 2 and words in " ".join(result.output.split())
        assert result.output.count("\n") == 1


@pytest.mark.parametrize("fmt", ["e4m3", "e5m2"])
def test_numbers_of_fp8_are_loaded_and_stored(fmt: str) -> None:
    """Triton's store to E5M2 stops at the largest number, where the format has an infinity."""
    verdict = verify("wide_relu", fmts=(fmt,), max_ulp=0.5)
    (measured,) = verdict.measurements
    assert measured.n_inputs == 256 and measured.max_ulp == 0
    assert [fault.code for fault in verdict.faults] == ([] if fmt == "e4m3" else ["nonfinite"])


def test_laws_are_asked_of_what_runs_there() -> None:
    """An output that ran on the CPU breaks none of them."""
    verdict = verify("relu", outputs=("forward", "grad_x"), laws=True)
    assert verdict.outcome == "inconclusive" and "grad_x" in verdict.reasons[0]
    assert [(e.property, e.state) for e in verdict.examinations] == [("laws", "holds")]
    (laws,) = verify("eager", laws=True).examinations
    assert laws.state == "not examined" and "torch's operator relu" in laws.reason
    (unknown,) = precision_lab.search.check_laws(f"{FILE}:relu", "relu", device="sm_90")
    assert unknown.is_open and unknown.law == "runs" and "grad_x" in unknown.message


@pytest.mark.slow
def test_laws_of_a_kernel_that_takes_long_are_no_hang() -> None:
    """Every draw of parameters is an answer."""
    verdict = verify("naive [triton]", "xielu", laws=True, params={"init": {}}, time_limit=12.0, max_ulp=1e9)
    assert "hung" not in {fault.code for fault in verdict.faults}
    assert any("signs with" in fault.message for fault in verdict.faults)


@pytest.mark.slow
def test_laws_are_checked_there() -> None:
    verdict = verify("as-printed [triton]", "xiprelu", laws=True, params={"init": {}})
    (laws,) = (e for e in verdict.examinations if e.property == "laws")
    assert laws.state == "broken" and laws.fmt == "bf16"  # β·x is −inf where α·x² is inf
    (message,) = {fault.message for fault in verdict.faults if " with " in fault.message}
    assert message.startswith("special_values with") and "x=-inf" in message


SESSION = """
import pytest
import torch
from hypothesis import given, settings

import gpu_kernels
from precision_lab import strategies


@settings(max_examples=25, deadline=None)
@given(strategies.floats("bf16"))
def test_strategies(x):
    result = gpu_kernels.relu(torch.tensor([x], dtype=torch.bfloat16, device="cuda"))
    assert result.item() == max(x, 0.0) and torch.cuda.get_device_capability() == (9, 0)


@pytest.mark.precision("relu", outputs=("forward",), properties=False, device="sm_90")
def test_marked():
    return gpu_kernels.relu


@pytest.mark.precision("relu", outputs=("forward",), properties=False, device="sm_90")
def test_marked_and_faulty():
    return gpu_kernels.unmasked
"""


def test_a_session_of_pytest_may_be_a_devices(tmp_path: Path) -> None:
    """Hypothesis's values on the emulated GPU, and the marker, in one process."""
    (tmp_path / "test_session.py").write_text(SESSION, encoding="utf-8")
    asks = "import torch\n\nassert torch.cuda.is_available()\n"  # as many do that choose a device
    (tmp_path / "conftest.py").write_text(asks, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "."]
    paths = [str(FILE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*command, "--precision-device", "sm_90"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "out_of_bounds" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"), [("cpu", "no emulated GPU"), ("sm_20", "no compiler at hand knows it")]
)
def test_a_session_of_another_device_is_refused(name: str, words: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"--precision-device {name}: .*{words}"):
        _become(name)
    assert "PRECISION_LAB_DEVICE" not in os.environ
