"""A verdict passes only what was measured, decided and within its bound."""

from __future__ import annotations

import dataclasses

import pytest

from precision_lab.bounds import Bound
from precision_lab.measure import measure
from precision_lab.verdict import assert_accurate, judge, verify

torch = pytest.importorskip("torch")


def relu(x, **_):
    return torch.relu(x)


def test_an_accurate_kernel_passes():
    verdict = verify(relu, "relu", fmts=("bf16", "fp16"), max_ulp=0.5)
    assert verdict.passed
    assert verdict.failures == ()
    assert {(m.fmt, m.output) for m in verdict.measurements} == {
        (fmt, output) for fmt in ("bf16", "fp16") for output in ("forward", "grad_x")
    }


def test_a_failure_gives_witness_and_replay():
    with pytest.raises(AssertionError) as caught:
        assert_accurate("naive", "xielu", dtype=torch.bfloat16, max_ulp=1, outputs=("grad_alpha_n",))
    message = str(caught.value)
    assert "exceeds bound 1" in message
    assert "Replay: precision-lab explain xielu --bits 0x" in message
    assert "--format bf16 --output grad_alpha_n" in message


def test_undecided_never_passes():
    m = dataclasses.replace(measure(relu, "relu", fmt="bf16"), undecided=1)
    assert any("undecided for 1 of 65536" in fault.message for fault in judge(m, Bound(1.0)))


def test_wrong_signs_and_infinities_are_within_no_bound():
    m = measure(lambda x, **_: torch.where(x > 2, -x, torch.relu(x)), "relu", fmt="bf16")
    assert "wrong_sign" in {fault.kind for fault in judge(m, Bound(1e300))}
    m = measure(lambda x, **_: torch.where(x > 2, torch.inf, torch.relu(x)), "relu", fmt="bf16")
    assert "nonfinite" in {fault.kind for fault in judge(m, Bound(1e300))}


@pytest.mark.parametrize("value", [0.4, float("nan"), float("inf"), -1.0])
def test_a_bound_below_correct_rounding_is_refused(value):
    with pytest.raises(ValueError, match="max_ulp="):
        Bound(value)
