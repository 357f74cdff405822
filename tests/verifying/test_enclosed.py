"""Kernels whose conforming results are too many to be tried: what encloses them decides, or nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulation import require

import precision_lab
from precision_lab.results import Measurement
from precision_lab.results.conformity import CERTIFIED, Conformity
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge, standing
from precision_lab.verifying.verdict import Verdict

require("triton")

FILE = Path(__file__).parents[1] / "helpers" / "gpu_ranges.py"


def verify(name: str, function: str) -> tuple[Verdict, Measurement, Conformity]:
    verdict = precision_lab.verify(
        f"{FILE}:{name}", function, fmts=("bf16",), outputs=("forward",), properties=False, finite=True,
        device="sm_90",
    )  # fmt: skip
    (measured,) = verdict.measurements
    assert measured.conformity is not None
    return verdict, measured, measured.conformity


def test_a_tanh_of_2_to_the_11_results_is_enclosed() -> None:
    """Of x·(1 + tanh) in BF16, where tanh is right to 2^-11: half an ulp where x > 0, and anything where
    1 + tanh cancels.
    """
    _, measured, found = verify("gelu_tanh", "gelu_tanh")
    assert measured.max_ulp > 200
    assert found.is_enclosed and not found.unknown and found.instructions == ("tanh.approx.f32",)
    assert found.regions["positive"].least <= 0.5
    assert 0.5 < found.regions["positive"].most < 0.7
    assert found.most > 1e6
    # With a bound that holds only where ranges are narrow nothing is decided, and that is said.
    loose = Bound(256, wrong_sign=9999, nonfinite=9999)
    assert measured.max_ulp < 256 and standing(measured, loose) == ""
    (finding,) = judge(measured, loose)
    assert finding.code == "depends_on_device" and "enclosed" in finding.message
    assert standing(measured, Bound(1e60, wrong_sign=9999, nonfinite=9999)) == CERTIFIED
    # A tanh just above −1 may be what makes the sum right: nothing is refuted.
    assert standing(measured, Bound(1, wrong_sign=9999, nonfinite=9999)) == ""


@pytest.mark.slow
def test_what_enclosing_says_is_what_trying_says() -> None:
    """Seven results of ex2, tried and enclosed."""
    _, _, tried = verify("softplus", "softplus")
    assert tried.combinations == 7
    _, _, both = verify("softplus_without_branch", "softplus")
    assert both.is_enclosed and not both.unknown


@pytest.mark.parametrize(
    ("name", "instruction"),
    [("sine", "sin.approx"), pytest.param("quotient_of_all", "div.approx", marks=pytest.mark.slow)],
)
def test_operands_of_which_nothing_is_promised_certify_nothing(name: str, instruction: str) -> None:
    """A sine beyond 100π, a quotient by a subnormal: any number may come of them."""
    verdict, _, found = verify(name, "relu")
    assert f"the manual promises nothing of what {instruction}" in found.unknown
    assert not verdict.passed


@pytest.mark.parametrize("name", [pytest.param("sine_within", marks=pytest.mark.slow), "quotient_within"])
def test_where_a_selection_keeps_them_out_the_kernel_passes(name: str) -> None:
    verdict, measured, found = verify(name, "relu")
    assert verdict.passed and not found.unknown and standing(measured, Bound(0.5)) == CERTIFIED


@pytest.mark.slow
def test_a_branch_that_a_device_decides_is_said() -> None:
    verdict, _, found = verify("softplus_over_threads", "softplus")
    assert "combined" in found.unknown and "the way through the program depends" in found.unknown
    assert not verdict.passed


@pytest.mark.slow
def test_two_launches_whose_results_meet_are_enclosed() -> None:
    _, measured, found = verify("silu_of_two_kernels", "silu")
    assert found.is_enclosed and not found.unknown
    assert found.most >= measured.max_ulp


@pytest.mark.slow
def test_of_all_inputs_of_fp32_nothing_but_the_rounded_result_is_known() -> None:
    """One result of each was tried: a verdict on 2^32 inputs says nothing of other devices."""
    verdict = precision_lab.verify(
        "fast-exp [triton]", "elu", fmts=("fp32",), outputs=("forward",), properties=False, device="sm_90",
        inputs="exhaustive", params={"init": {}}, max_ulp=1e300,
    )  # fmt: skip
    (measured,) = verdict.measurements
    assert measured.n_inputs == 1 << 32 and measured.conformity is not None
    assert "correctly rounded results alone were tried" in measured.conformity.unknown
    assert verdict.outcome != "pass"
