"""What is decided at poles, at infinity and beyond float64: each was undecided, slow or wrong once."""

from __future__ import annotations

import math

import numpy as np
import pytest

import precision_lab as pl
from precision_lab import math as formulas
from precision_lab.formats import get_format
from precision_lab.functions import FUNCTIONS
from precision_lab.oracle import certified, reference
from precision_lab.oracle.certified import limit_of

INF = math.inf


@pl.activation
def grows(x):  # type: ignore[no-untyped-def]
    return formulas.exp(x)


@pl.activation
def clamped_gate(x):  # type: ignore[no-untyped-def]
    return 7 * formulas.sigmoid(formulas.minimum(x, 7))


def test_what_grows_as_the_exponential_is_no_sum_for_the_fast_tiers() -> None:
    """The fast tiers have e^x for x ≤ 0 alone, and its limit at infinity was refused."""
    assert grows.sides is None and not FUNCTIONS["expm1"].has_terms("grad_x")
    found = reference(grows, "forward", None, np.array([1.0, 800.0, INF, -INF]), "fp32")
    assert not found.undecided.any()
    assert found.rounded.tolist() == [float(np.float32(math.e)), INF, INF, 0.0]


def test_what_no_float64_number_holds_is_settled_by_the_first_balls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these inputs was looked at with 65,536 bits: minutes for all of bf16."""
    monkeypatch.setattr(certified, "BITS", ())
    x = np.array([711.0, 1e4, 1e38, -1e38])
    found = reference(grows, "forward", None, x, "fp16")
    assert not found.undecided.any()
    assert found.rounded.tolist() == [INF, INF, INF, 0.0]


def test_a_constant_beyond_a_clamp_keeps_its_tail_in_the_limit() -> None:
    """σ(7) is 1 less m·e^−7, whose factor e^−7 was left out: the limit came out as 0.0064."""
    found = limit_of(clamped_gate, "forward", {}, 1)
    assert found == pytest.approx(7 / (1 + math.exp(-7)), rel=1e-15)
    gpt_oss = FUNCTIONS["gpt_oss_swiglu"]
    params = gpt_oss.check_params()
    assert limit_of(gpt_oss, "forward", params, 1) == float(pl.evaluate(gpt_oss, 100.0, params, bits=53))


@pytest.mark.parametrize(
    ("name", "output", "x", "expected"),
    [
        ("log1p", "forward", -1.0, -INF),
        ("log1p", "grad_x", -1.0, INF),
        ("log1p", "forward", -INF, math.nan),
        ("log1p", "forward", math.nextafter(-1, -2), math.nan),
        ("rsqrt", "forward", 0.0, INF),
        ("rsqrt", "forward", -0.0, INF),
        ("rsqrt", "forward", -(2.0**-149), math.nan),
        ("rsqrt", "grad_x", 0.0, -INF),
        ("rsqrt", "grad_x", -INF, math.nan),
        ("snake", "grad_x", INF, math.nan),
        ("snake", "grad_alpha", -INF, math.nan),
        ("softsign", "forward", -INF, -1.0),
    ],
)
def test_edges_of_domains_are_decided(name: str, output: str, x: float, expected: float) -> None:
    found = reference(name, output, None, np.array([x]), "fp64")
    assert not found.undecided[0]
    assert np.array_equal(found.rounded, [expected], equal_nan=True)


def test_a_derivative_at_zero_takes_the_side_of_the_zeros_sign() -> None:
    """1/x as the derivative of log x: log has values on one side alone, 1/x on both."""
    logarithm = pl.activation(name="logarithm")(lambda x: formulas.log(x))
    found = reference(logarithm, "grad_x", None, np.array([0.0, -0.0]), "fp32")
    assert found.rounded.tolist() == [INF, -INF] and not found.undecided.any()


def test_a_pole_with_two_sides_stays_undecided() -> None:
    pole = pl.activation(name="pole")(lambda x: 1 / (x - 1))
    found = reference(pole, "forward", None, np.array([1.0, 2.0]), "fp32")
    assert found.undecided.tolist() == [True, False]


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if f.sides is None])
def test_nothing_of_the_new_functions_is_undecided_in_fp16(name: str) -> None:
    """Every twentieth pattern, and zeros, infinities and NaN."""
    target = get_format("fp16")
    x = np.concatenate([target.decode(target.all_bits()[::20]), [0.0, -0.0, INF, -INF, math.nan]])
    function = FUNCTIONS[name]
    for params in function.parameter_sets.values():
        for output in function.outputs:
            assert not reference(function, output, params, x, target).undecided.any(), (params, output)
