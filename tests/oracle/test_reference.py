"""Where the ladder ends: ties that something far below every working precision decides; what stays open.

The truth here is a rational number by hand and, from Arb, a ball around what is beside it: its sign, and
that it is too small to reach any other boundary. Nothing of the oracle is used.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from arb_witness import arithmetic, to_arb
from by_name import enclosures
from exact_rounding import exact_rounding, exact_ulp, same
from flint import arb

from precision_lab.formats import FORMATS, FP64
from precision_lab.formula.expression import X, where
from precision_lab.formula.vocabulary import sigmoid, softplus, tanh
from precision_lab.functions import XIELU, Activation, Effective
from precision_lab.oracle import TIERS, double_double_tier, evaluate, reference
from precision_lab.oracle.curve import Curve
from precision_lab.study.reduction import ExactSum

BESIDE = Fraction(1, 2**4000)  # what stands for a remainder: numbers and ties are multiples of 2^-1200


def beside(anchor: Fraction, rest: arb) -> Fraction:
    """A number that rounds as anchor + rest does into every format, rest being tiny but not 0."""
    assert abs(rest) < arb(2) ** -1400
    assert rest > 0 or rest < 0
    return anchor + (BESIDE if rest > 0 else -BESIDE)


def decides_alike(result: Any, i: int, value: Fraction) -> bool:
    fmt = result.fmt
    rounded = exact_rounding(value, fmt)
    tail = (value - Fraction(rounded)) / exact_ulp(value, fmt) if math.isfinite(rounded) else Fraction(0)
    return (
        same(result.rounded[i], rounded)
        and Fraction(float(result.ulp[i])) == exact_ulp(value, fmt)
        and abs(tail - Fraction(float(result.tail[i]))) <= Fraction(1, 2**10)
        and (rounded != 0 or abs(result.tail[i]) != 0.5)
        and result.sign[i] == (-1 if value < 0 else 1)
    )


def gate(x: float) -> arb:
    """σ(x) far left of 0."""
    e = to_arb(x).exp()
    return e / (1 + e)


def normal(x: float) -> arb:
    """Φ(x) far left of 0, between the bounds of Mills' ratio: φ(x)·|x|/(1 + x²) and φ(x)/|x|."""
    point = -to_arb(x)
    density = (-point * point / 2).exp() / (2 * arb.pi()).sqrt()
    return (density * point / (1 + point * point)).union(density / point)


# function, output, params, x → anchor and rest
Near = tuple[str, str, dict[str, float], float, Fraction, arb]


def expanded(function: str, alpha: float, x: float) -> Near:
    """(1 + 2α)·x·g(x) − α·x with a gate g: x·g is −|x|·g(−|x|) beyond 0 or beyond x."""
    far = gate if function == "xsilu" else normal
    a, point = Fraction(alpha), Fraction(x)
    anchor = (1 + a) * point if x > 0 else -a * point
    return function, "forward", {"alpha": alpha}, x, anchor, -(1 + 2 * to_arb(alpha)) * abs(x) * far(-abs(x))


def bent(alpha_n: float, beta: float, x: float) -> Near:
    """β − α_n + α_n·eˣ."""
    params = {"alpha_p": 0.8, "alpha_n": alpha_n, "beta": beta}
    return (
        "xielu", "grad_x", params, x, Fraction(beta) - Fraction(alpha_n), to_arb(alpha_n) * to_arb(x).exp(),
    )  # fmt: skip


def cube(alpha_p: float, x: float) -> Near:
    """x³·(1 − e^(−α_p))."""
    params = {"alpha_p": alpha_p, "alpha_n": 0.8, "beta": 0.5}
    anchor = Fraction(x) ** 3
    return (
        "xielu_cubic", "grad_raw_alpha_p", params, x, anchor, -to_arb(anchor) * (-to_arb(alpha_p)).exp(),
    )  # fmt: skip


def left(alpha_n: float, x: float) -> Near:
    """(eˣ − 1 − x)·(1 − e^(β−α_n)): the remainders eˣ and (1 + x)·e^(β−α_n) have opposite signs."""
    params = {"alpha_p": 0.8, "alpha_n": alpha_n, "beta": 0.5}
    factor = (to_arb(0.5) - to_arb(alpha_n)).exp()
    anchor = -1 - Fraction(x)
    rest = to_arb(x).exp() * (1 - factor) - to_arb(anchor) * factor
    return "xielu", "grad_raw_alpha_n", params, x, anchor, rest


NAMED = {
    "xsilu fp64": ("fp64", lambda: expanded("xsilu", 0.5090409904135188, 2.0**33), "0x1.825082a626467p33"),
    "xielu at -1600": ("bf16", lambda: bent(2.0**62, 2.0**53, -1600.0), "-0x1.fep61"),
    "xielu at -1900": ("bf16", lambda: bent(2.0**62, 2.0**53, -1900.0), "-0x1.fep61"),
    "xielu at -2^40": ("bf16", lambda: bent(2.0**62, 2.0**53, -(2.0**40)), "-0x1.fep61"),
    "xielu_cubic at 7": ("bf16", lambda: cube(2000.0, 7.0), "0x1.5600000000000p+8"),
    "xielu_cubic at 1.75": ("bf16", lambda: cube(2000.0, 1.75), "0x1.5600000000000p+2"),
    "xgelu bf16": ("bf16", lambda: expanded("xgelu", 1e30, -768.0), None),
    "xgelu fp64": ("fp64", lambda: expanded("xgelu", 1e30, -768.0), "0x1.2eec2eb3869afp109"),
    "factor beats e^x": ("bf16", lambda: left(3000.5, -4145.0), "0x1.0200000000000p+12"),
    "e^x beats factor": ("bf16", lambda: left(5000.5, -2057.0), "0x1.0200000000000p+11"),
}


@pytest.fixture
def mpmath_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder's last rung without the one before."""

    def knows_nothing(case: Any, x: np.ndarray) -> Any:
        return np.zeros_like(x), np.zeros_like(x), np.full_like(x, np.inf), np.zeros(x.size, np.int64)

    monkeypatch.setattr(double_double_tier, "enclose", knows_nothing)


@pytest.fixture(params=["double-double", "mpmath alone"])
def tier(request: pytest.FixtureRequest) -> str:
    if request.param == "mpmath alone":
        request.getfixturevalue("mpmath_alone")
    return str(request.param)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_beside_a_tie_decides_it(name: str, tier: str) -> None:
    fmt, near, expected = NAMED[name]
    with arithmetic(300):
        function, output, params, x, anchor, rest = near()
        value = beside(anchor, rest)
    result = reference(function, output, params, np.array([x]), fmt)
    assert not result.undecided[0]
    assert decides_alike(result, 0, value), (result, value)
    if expected is not None:
        assert result.rounded[0] == float.fromhex(expected)


def generated(count: int, seed: int) -> list[tuple[str, Near]]:
    """Ties of an exact part: xsilu and xgelu for huge x (1 + α has 54 digits), raw gradients."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        k = int(rng.integers(11, 60))
        if i % 4 < 2:
            alpha = float(rng.uniform(0.5, 1))
            found.append(("fp64", expanded(("xsilu", "xgelu")[i % 4], alpha, 2.0**k)))
        elif i % 4 == 2:
            digits = 257 + 2 * int(rng.integers(0, 128))
            found.append(("bf16", expanded("xsilu", digits * 2.0 ** int(rng.integers(-9, 80)), -(2.0**k))))
        else:
            found.append(("bf16", cube(2.0**k, float(rng.choice([7.0, 14.0, 28.0, 5.5, 1.75])))))
    return found


def test_four_hundred_ties_are_decided_rightly(tier: str) -> None:
    """118 of them came out wrong: their enclosures' radii had underflowed, and the ties were called even."""
    wrong = []
    for fmt, near in generated(400, seed=20411):
        with arithmetic(300):
            function, output, params, x, anchor, rest = near
            value = beside(anchor, rest)
        result = reference(function, output, params, np.array([x]), fmt)
        if result.undecided[0] or not decides_alike(result, 0, value):
            wrong.append((function, fmt, params, x, float(result.rounded[0])))
    assert not wrong, f"{len(wrong)} of 400: {wrong[:5]}"


# c·x + silu(x) − mish(x): far right c·x − x·σ(−x) + 2x·r²/(1+r²), r = σ(−x). Two remainders of opposite
# signs, so that only an enclosure of the whole tells which is larger.
SLOPE = 1 + 3 * 2.0**-8
DIFFERENCE = Activation(
    name="difference",
    title="difference",
    expression=where(X > 0, Fraction(SLOPE) * X + X * sigmoid(X) - X * tanh(softplus(X)), 0),
    source="this test",
)


@pytest.mark.usefixtures("mpmath_alone")
def test_precision_goes_on_past_2560_bits_until_a_tie_is_decided() -> None:
    x = 4096.0  # the remainder is about 2^-5897
    with arithmetic(300):
        r = gate(-x)
        rest = x * (-r + 2 * r * r / (1 + r * r))
        assert arb(2) ** -5899 < -rest < arb(2) ** -5890
    result = reference(DIFFERENCE, "forward", {}, np.array([x]), "bf16")
    value = Fraction(SLOPE) * Fraction(x) - Fraction(1, 2**5890)
    assert not result.undecided[0] and TIERS[result.tier[0]] == "balls"
    assert exact_rounding(value, FORMATS["bf16"]) != exact_rounding(Fraction(SLOPE * x), FORMATS["bf16"])
    assert decides_alike(result, 0, value)


@pytest.mark.usefixtures("mpmath_alone")
def test_what_is_beyond_the_last_precision_is_undecided() -> None:
    """2^-189,000 beside a tie, its sign known to no rule: not decided, and above all not decided as a tie."""
    result = reference(DIFFERENCE, "forward", {}, np.array([2.0**17, 2.0**17 + 1024]), "bf16")
    assert result.undecided.tolist() == [True, False]  # off the tie nothing of the kind is asked


# -- radii that must not underflow ------------------------------------------------------------------


@pytest.mark.parametrize("t", [5e-324, 1e-300, 0.5, 40.0, 700.0, 767.5, 768.0, 1536.0, 1e6])
def test_a_raw_gradients_factor_is_enclosed(t: float) -> None:
    from precision_lab.functions import get_function

    params = get_function("xielu").check_params({"alpha_p": t})
    found = Curve(get_function("xielu"), "grad_raw_alpha_p", params).factor()
    assert found is not None
    high, low, radius, nudge = found
    with arithmetic(5000):
        missing = (-to_arb(t)).exp()
        if nudge:
            assert (high, low, radius) == (1, 0, 0) and nudge < 0
            assert 0 < missing < arb(2) ** (-2000 if nudge == -2 else -1000)
        else:
            assert abs(1 - missing - to_arb(high) - to_arb(low)) <= to_arb(radius)


def test_an_enclosure_at_zero_holds_half_the_smallest_number() -> None:
    """SwiGLU's gradient at 0 is b/2, which float64 rounds to 0 for its smallest b."""
    high, low, radius = enclosures("swiglu", "grad_x", {"b": 5e-324}, np.array([0.0]))
    half = Fraction(5e-324) / 2
    assert abs(half - Fraction(high[0]) - Fraction(low[0])) <= Fraction(radius[0])
    high, low, radius = enclosures("swiglu", "grad_x", {"b": 3.0}, np.array([0.0]))
    assert (high[0], low[0], radius[0]) == (1.5, 0.0, 0.0)


def test_a_value_too_small_for_float64_is_not_called_zero() -> None:
    result = reference("silu", "forward", {}, np.array([-800.0, -(2.0**40)]), "fp64")
    assert result.exact.tolist() == [-5e-324, -5e-324] and result.sign.tolist() == [-1, -1]
    assert not result.undecided.any()


def test_enclosures_hold_what_is_nearly_too_small_for_float64() -> None:
    """Where a piece's values are about 2^-1050, Horner's products underflow."""
    x = -np.random.default_rng(8).uniform(640, 768, 300)
    for function in ("silu", "mish", "softplus"):
        high, low, radius = enclosures(function, "forward", {}, x)
        for point, h, s, r in zip(x.tolist(), high.tolist(), low.tolist(), radius.tolist(), strict=True):
            with arithmetic(1600):
                e = to_arb(point).exp()
                n = e * (e + 2)  # tanh(log(1 + e)) is n/(n + 2)
                exact = {"silu": point * e / (1 + e), "mish": point * n / (n + 2), "softplus": e.log1p()}[
                    function
                ]
                assert abs(exact - to_arb(h) - to_arb(s)) <= to_arb(r), (function, point)


def test_a_sum_of_products_that_underflow_is_still_enclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.study import reduction

    rng = np.random.default_rng(1)
    upstream = rng.standard_normal(64)
    high = np.ldexp(rng.uniform(1, 2, 64), rng.integers(-1074, -1000, 64))
    radius = np.full(64, 5e-324)
    monkeypatch.setattr(reduction, "tensors", lambda fmt, data: (upstream, upstream))
    monkeypatch.setattr(reduction, "_enclosures", lambda *_: (high, np.zeros(64), radius))
    curve = Curve(XIELU, "grad_beta", Effective({}))
    found: ExactSum = reduction.exact_sum.__wrapped__(curve, FP64, "random")
    terms = zip(upstream.tolist(), high.tolist(), radius.tolist(), strict=True)
    exact, reach = Fraction(0), Fraction(0)
    for u, h, r in terms:
        exact, reach = exact + Fraction(u) * Fraction(h), reach + abs(Fraction(u)) * Fraction(r)
    assert abs(exact - sum(map(Fraction, found.parts))) + reach <= Fraction(found.error)


def test_a_coefficient_beyond_float64_is_left_to_mpmath() -> None:
    """1 + 2α overflows for an α near the largest float64."""
    result = reference("xsilu", "forward", {"alpha": 1.5e308}, np.array([3.0, 1e-5]), "fp64")
    assert not result.undecided.any()
    with arithmetic(200):
        x = to_arb(1e-5)
        exact = (1 + 2 * to_arb(1.5e308)) * x / (1 + (-x).exp()) - to_arb(1.5e308) * x
        assert abs(exact / to_arb(float(result.rounded[1])) - 1) < arb(2) ** -53
    assert result.rounded[0] == math.inf


@pytest.mark.parametrize(("saturating", "largest"), [(True, 448.0), (False, math.nan)])
def test_an_infinite_limit_saturates_where_storage_does(saturating: bool, largest: float) -> None:
    found = reference("relu2", "forward", {}, np.array([np.inf, 1e4]), "e4m3", saturating=saturating)
    assert np.array_equal(found.rounded, [largest, largest], equal_nan=True)


@pytest.mark.parametrize("name", ["e3m2", "e2m3", "e2m1"])
def test_overflow_saturates_in_formats_with_nothing_else(name: str) -> None:
    """Compiled, beyond the largest number, as at an infinite limit."""
    largest = FORMATS[name].max_finite
    found = reference("relu2", "forward", {}, np.array([np.inf, 1e4, largest, 1.0]), name)
    assert found.rounded.tolist() == [largest, largest, largest, 1.0] and not found.undecided.any()
    with pytest.raises(ValueError, match="format 'e8m0' has no zero"):
        reference("relu2", "forward", {}, np.array([1.0]), "e8m0")


def test_a_weight_lifts_what_had_vanished_into_the_range_of_fp64() -> None:
    """α_n·e^x with α_n = β = 2^50: e^-770 is 2^-1110, the product a number of fp64."""
    params = {"alpha_p": 1.0, "alpha_n": 2.0**50, "beta": 2.0**50}
    x = np.array([-770.0, -750.0])
    found = reference("xielu", "grad_x", params, x, "fp64")
    exact = [float(evaluate("xielu", v, params, output="grad_x")) for v in x.tolist()]
    assert 0 < exact[0] < 2.0**-1060
    assert found.rounded.tolist() == exact and not found.undecided.any()


def test_an_enclosure_holds_what_is_beyond_an_asymptote() -> None:
    """800·σ(800) is 800 less 2^-1144: a radius of 0 would call it 800."""
    high, low, radius = enclosures("silu", "forward", None, np.array([800.0, -800.0]))
    assert high.tolist() == [800.0, 0.0] and low.tolist() == [0.0, 0.0]
    assert (radius > 0).all() and (radius < 2.0**-900).all()


@pytest.mark.parametrize(("weight", "ulp"), [(1, 2.0**-53), (-1, 2.0**-52)])
def test_what_is_beyond_an_asymptote_has_its_weights_sign(weight: int, ulp: float) -> None:
    """1 ± x·σ(x) at −800: below 1 an ulp is half as large as above."""
    function = Activation("sided", "", 1 + weight * (X * sigmoid(X)))
    assert function.has_terms("forward")
    found = reference(function, "forward", {}, np.array([-800.0]), "fp64")
    assert (found.rounded[0], found.ulp[0]) == (1.0, ulp)
