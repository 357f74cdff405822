"""The whole ladder against Arb: rounding, ulp, sign and tail of functions and gradients, input by input.

By default each set of parameters is looked at in every second format, extreme ones in every third, in turn;
the exhaustive run adds the others, and forty times as many inputs.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from arb_witness import arithmetic, witness
from by_name import enclosures
from exact_rounding import exact_rounding, exact_ulp, same
from flint import arb

from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.functions import get_function
from precision_lab.oracle import TIERS, double_double_tier, evaluate, reference, settle
from precision_lab.oracle.plain_roots import roots_of

# The package has a function of that name.
ladder = importlib.import_module("precision_lab.oracle.reference")

TAIL_ULPS = Fraction(1, 2**10)
OUTPUT_FORMATS = {"e4m3": ("e4m3", "e5m2")}
SAMPLES = {"e4m3": 256, "bf16": 60, "fp16": 60, "fp32": 60, "fp64": 50}


@dataclass(frozen=True)
class Exact:
    """What Arb knows of a value: an exact number, or one strictly between two fractions."""

    low: Fraction
    high: Fraction

    @property
    def sign(self) -> int:
        return (self.low > 0) - (self.high < 0)


def fraction(value: arb) -> Fraction:
    man, exp = value.man_exp()
    return Fraction(int(man)) * Fraction(2) ** int(exp)


def exact(function: str, output: str, x: float, params: dict[str, float], bits: int) -> Exact:
    ball = witness(function, output, x, params, bits)
    with arithmetic(bits + 64):
        tiny = arb(2) ** -3000
        if not ball.is_zero() and abs(ball) < tiny:
            # e^-1e38 as a fraction would fill the memory; only its sign matters this far down.
            sign = 1 if ball > 0 else -1
            return Exact(*(2 * [sign * Fraction(1, 2**3000)]))
        return Exact(fraction(ball.lower()), fraction(ball.upper()))


def disagreements(
    function: str, output: str, params: dict[str, float], x: np.ndarray, fmt: FloatFormat
) -> list[str]:
    """Everything in which `reference` and Arb differ."""
    result = reference(function, output, params, x, fmt)
    found = []
    for i, value in enumerate(x.tolist()):
        if not math.isfinite(value):
            continue
        problem = _disagreement(function, output, params, value, fmt, result, i)
        if problem:
            found.append(f"{function} {output} {fmt.name} x={value!r} {params}: {problem}")
    return found


def _disagreement(
    function: str, output: str, params: dict[str, float], x: float, fmt: FloatFormat, result: Any, i: int
) -> str:
    if result.undecided[i]:
        return "undecided"
    for bits in (120, 400, 2400):
        value = exact(function, output, x, params, bits)
        ends = [exact_rounding(v, fmt) for v in (value.low, value.high)]
        ulps = [exact_ulp(v, fmt) for v in (value.low, value.high)]
        if same(*ends) and ulps[0] == ulps[1]:
            break
    else:
        # A boundary plus or minus some e^x: either side is what Arb allows here, and which it is
        # follows from the remainder's sign (tested far out, below).
        got = (float(result.rounded[i]), Fraction(float(result.ulp[i])))
        return "" if got in zip(ends, ulps, strict=True) else f"{got}, Arb {ends} {ulps}"
    rounded = float(result.rounded[i])
    if not same(rounded, ends[0]):
        return f"rounded {rounded!r}, Arb {ends[0]!r}"
    if not math.isfinite(rounded):
        return ""
    if Fraction(float(result.ulp[i])) != ulps[0]:
        return f"ulp {result.ulp[i]!r}, Arb {float(ulps[0])!r}"
    tail = (value.low - Fraction(rounded)) / ulps[0]
    if abs(tail - Fraction(float(result.tail[i]))) > TAIL_ULPS:
        return f"tail {result.tail[i]!r}, Arb {float(tail)!r}"
    needed = abs(value.low) > Fraction(fmt.min_subnormal) / 2
    if result.sign[i] != value.sign and (needed or result.sign[i] != 0):
        return f"sign {result.sign[i]}, Arb {value.sign}"
    return ""


def sample(
    function: str, output: str, params: dict[str, float], name: str, seed: int, factor: int = 1
) -> np.ndarray:
    """All of an 8-bit format; of others, numbers of every binade, roots and edges."""
    fmt = FORMATS[name]
    if fmt.bits == 8:
        return fmt.decode(fmt.all_bits())
    rng, count = np.random.default_rng(seed), factor * SAMPLES[name]
    spread = fmt.from_ordinal(rng.integers(-fmt.max_ordinal, fmt.max_ordinal, count))
    near = fmt.round(rng.uniform(-20, 4, count))
    roots = fmt.round(np.array(roots_of(get_function(function), output, params)))
    edges = np.array([fmt.max_finite, fmt.min_normal, fmt.min_subnormal, 1.0, 2.0**10, 0.0])
    edges = np.concatenate(
        [edges, *fmt.neighbours(roots), roots, fmt.round(np.array([16.63, 87.3, 103.97, 710]))]
    )
    return np.concatenate([spread, near, edges, -edges])


def sets_of(function: str) -> list[tuple[str, str]]:
    return [(function, name) for name in get_function(function).parameter_sets]


def ids(value: Any) -> str:
    return "-".join(value) if isinstance(value, tuple) else str(value)


def in_turn(n: int, k: int, of: int) -> list[pytest.MarkDecorator]:
    """One pair in so many is not slow: every n and, of enough of them, every k."""
    return [] if n % of == k % of else [pytest.mark.slow]


SETS = sets_of("xielu") + sets_of("xiprelu")


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{ids(case)}-{name}", marks=in_turn(n, k, 2))
        for n, case in enumerate(SETS)
        for k, name in enumerate(SAMPLES)
    ],
)
def test_xielu_and_xiprelu_agree_with_arb(case: tuple[str, str], name: str) -> None:
    assert_agreement(case, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "e4m3"])  # which is complete above
@pytest.mark.parametrize("case", SETS, ids=ids)
def test_thousands_of_inputs_agree_with_arb(case: tuple[str, str], name: str) -> None:
    assert_agreement(case, name, factor=40)


def assert_agreement(case: tuple[str, str], name: str, factor: int = 1) -> None:
    function = get_function(case[0])
    params = dict(function.parameter_sets[case[1]])
    found = []
    raw = () if params["alpha_n"] <= params["beta"] else function.raw_outputs
    for output in (*function.outputs, *raw):
        x = sample(case[0], output, params, name, len(output) + factor - 1, factor)
        for fmt in OUTPUT_FORMATS.get(name, (name,)):
            found += disagreements(case[0], output, params, x, FORMATS[fmt])
    assert not found, "\n".join(found[:10])


@pytest.mark.parametrize("name", ["e4m3", "bf16", "fp32", "fp64"])
@pytest.mark.parametrize(
    "function",
    [
        "silu", "elu", "selu", "mish", "gelu", "gelu_tanh", "swiglu", "softplus", "atlu",
        "sigmoid", "tanh", "logsigmoid", "celu", "reglu",  # geglu's and geglu_tanh's tables are gelu's
    ],
)  # fmt: skip
def test_other_functions_agree_with_arb(
    function: str, name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))
    definition = get_function(function)
    params = dict(definition.parameter_sets["init"])
    found = []
    for output in definition.outputs:
        x = sample(function, output, params, name, seed=7)
        if name == "e4m3":
            x = x[::2]
        elif name != "fp64":  # the far-out inputs have a test of their own
            x = x[np.abs(x) < 200][:80]
        else:
            x = x[np.abs(x) < 30][:40]
        found += disagreements(function, output, params, x, FORMATS[name])
    assert not found, "\n".join(found[:10])


EXTREMES: dict[str, dict[str, float]] = {
    "tiny": {"alpha_p": 1e-30, "alpha_n": 1e-30, "beta": 0.5},
    "huge": {"alpha_p": 1e30, "alpha_n": 1e30, "beta": 0.5},
    "subnormal": {"alpha_p": 5e-324, "alpha_n": 1e-310, "beta": 1e-320},
    "equal": {"alpha_p": 0.5, "alpha_n": 0.5, "beta": 0.5},
    "one apart": {"alpha_p": 0.5, "alpha_n": 0.5000000000000001, "beta": 0.5},
    "beta zero": {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.0},
    "beta negative": {"alpha_p": 0.8, "alpha_n": 0.3, "beta": -0.7},
}


@pytest.mark.parametrize(
    ("function", "extreme", "name"),
    [
        pytest.param(function, extreme, name, id=f"{function}-{extreme}-{name}", marks=in_turn(n + i, k, 3))
        for i, function in enumerate(("xielu", "xiprelu"))
        for n, extreme in enumerate(EXTREMES)
        for k, name in enumerate(("bf16", "fp32", "fp64"))
    ],
)
def test_extreme_parameters_agree_with_arb(function: str, extreme: str, name: str) -> None:
    params, found = EXTREMES[extreme], []
    for output in get_function(function).outputs:
        x = sample(function, output, params, name, seed=11)[::3]
        x = x[(x > -600) | (x < -1100)]  # between, e^x beside 0.5 costs Arb too much time
        found += disagreements(function, output, params, x, FORMATS[name])
    assert not found, "\n".join(found[:10])


# -- far out, where no ball separates a value from its asymptote ---------------------------------

# f = asymptote + (a remainder of this sign), for |x| ≥ 1024: by hand, not from the registry.
FAR: dict[tuple[str, str, int], tuple[int, int, int]] = {
    # (function, output, side): (constant, slope, sign of the remainder)
    ("silu", "forward", 1): (0, 1, -1),
    ("silu", "forward", -1): (0, 0, -1),
    ("silu", "grad_x", 1): (1, 0, 1),
    ("silu", "grad_x", -1): (0, 0, -1),
    ("gelu", "forward", 1): (0, 1, -1),
    ("gelu", "forward", -1): (0, 0, -1),
    ("gelu", "grad_x", 1): (1, 0, 1),
    ("gelu_tanh", "forward", 1): (0, 1, -1),
    ("gelu_tanh", "grad_x", 1): (1, 0, 1),
    ("gelu_tanh", "grad_x", -1): (0, 0, -1),
    ("mish", "forward", 1): (0, 1, -1),
    ("mish", "forward", -1): (0, 0, -1),
    ("mish", "grad_x", 1): (1, 0, 1),
    ("mish", "grad_x", -1): (0, 0, -1),
    ("softplus", "forward", 1): (0, 1, 1),
    ("softplus", "forward", -1): (0, 0, 1),
    ("softplus", "grad_x", 1): (1, 0, -1),
    ("elu", "forward", -1): (-1, 0, 1),
    ("sigmoid", "forward", 1): (1, 0, -1),
    ("sigmoid", "forward", -1): (0, 0, 1),
    ("sigmoid", "grad_x", 1): (0, 0, 1),
    ("sigmoid", "grad_x", -1): (0, 0, 1),
    ("tanh", "forward", 1): (1, 0, -1),
    ("tanh", "forward", -1): (-1, 0, 1),
    ("tanh", "grad_x", 1): (0, 0, 1),
    ("tanh", "grad_x", -1): (0, 0, 1),
    ("logsigmoid", "forward", 1): (0, 0, -1),
    ("logsigmoid", "forward", -1): (0, 1, -1),
    ("logsigmoid", "grad_x", 1): (0, 0, 1),
    ("logsigmoid", "grad_x", -1): (1, 0, -1),
    ("celu", "forward", -1): (-1, 0, 1),
}


@pytest.mark.parametrize("case", FAR, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]:+d}")
def test_far_out_the_sign_of_the_remainder_decides(case: tuple[str, str, int]) -> None:
    function, output, side = case
    constant, slope, sign = FAR[case]
    # First the table itself, where Arb still resolves the remainder.
    near = witness(function, output, 12.0 * side, dict(get_function(function).check_params({})), 3000)
    with arithmetic(3200):
        rest = near - constant - slope * 12 * side
        assert (rest > 0) if sign > 0 else (rest < 0)
    for name in ("bf16", "fp32", "fp64"):
        fmt = FORMATS[name]
        x = side * np.ldexp(1.0, np.arange(10, fmt.emax + 1))
        x = np.append(x, side * np.array([fmt.max_finite, 1024 + 2.0**3]))
        if name == "fp64" and not slope and not constant:
            continue  # the value is the remainder itself
        result = reference(function, output, None, x, fmt)
        assert not result.undecided.any()
        for i, value in enumerate(x.tolist()):
            asymptote = constant + slope * Fraction(value)
            # Far below everything the format or the tail can tell apart.
            nudged = asymptote + sign * Fraction(1, 2**2200)
            assert same(result.rounded[i], exact_rounding(nudged, fmt)), (name, value)
            assert Fraction(float(result.ulp[i])) == exact_ulp(nudged, fmt), (name, value)
            tail = (nudged - Fraction(float(result.rounded[i]))) / exact_ulp(nudged, fmt)
            assert abs(tail - Fraction(float(result.tail[i]))) <= TAIL_ULPS
            assert result.sign[i] in (0, (nudged > 0) - (nudged < 0)), (name, value)


# -- evaluate and enclosures ----------------------------------------------------------------------


@pytest.mark.parametrize("bits", [20, 53, 200, 1000])
@pytest.mark.parametrize("function", ["xielu", "xiprelu", "silu", "gelu", "gelu_tanh", "softplus", "xatlu"])
def test_evaluate_is_right_to_the_bits_asked_for(function: str, bits: int) -> None:
    definition = get_function(function)
    params = definition.check_params({})
    points = [-30.0, -1.0, -1e-8, 5e-324, 1e-300, 0.7, 12.5, *roots_of(definition, "grad_x", params)]
    for output in ("forward", "grad_x"):
        for x in points:
            got = evaluate(function, x, output=output, bits=bits)
            true = witness(function, output, x, params, bits + 80)
            sign, man, exp, _ = got._mpf_
            mine = Fraction(-man if sign else man) * Fraction(2) ** exp
            with arithmetic(bits + 200):
                for end in (fraction(true.lower()), fraction(true.upper())):
                    allowed = abs(end) * (Fraction(1, 2**bits) + Fraction(1, 2 ** (bits + 60)))
                    assert abs(mine - end) <= allowed, (output, x)


@pytest.mark.parametrize("x", [-5.0, -12.0, -30.0, -200.0])
@pytest.mark.parametrize("bits", [1100, 2000, 5000, 12000])
def test_softplus_has_as_many_bits_as_are_asked_for(bits: int, x: float) -> None:
    """e^x small but not tiny: the series of log1p would need more terms than it may have."""
    got = evaluate("softplus", x, bits=bits)
    sign, man, exp, _ = got._mpf_
    mine = Fraction(-man if sign else man) * Fraction(2) ** exp
    with arithmetic(bits + 400):
        true = arb(x).exp().log1p()
        low, high = fraction(true.lower()), fraction(true.upper())
    assert max(abs(mine - low), abs(mine - high)) <= high * (
        Fraction(1, 2**bits) + Fraction(1, 2 ** (bits + 60))
    )


def test_evaluate_refuses_what_is_no_float64() -> None:
    with pytest.raises(ValueError, match="not a float64 number"):
        evaluate("silu", Fraction(1, 3))
    with pytest.raises(ValueError, match="bits=1"):
        evaluate("silu", 1.0, bits=1)


def test_enclosures_contain_arbs_value() -> None:
    x = np.random.default_rng(5).uniform(-30, 5, 300)
    params = get_function("xielu").check_params({})
    for output in ("forward", "grad_x", "grad_alpha_n"):
        high, low, radius = enclosures("xielu", output, params, x)
        for value, h, s, r in zip(x.tolist(), high.tolist(), low.tolist(), radius.tolist(), strict=True):
            true = exact("xielu", output, value, params, 300)
            for end in (true.low, true.high):
                assert abs(end - Fraction(h) - Fraction(s)) <= Fraction(r) + abs(end) / 2**250


def test_what_no_tier_decides_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def knows_nothing(case: Any, x: np.ndarray) -> Any:
        return np.zeros_like(x), np.zeros_like(x), np.full_like(x, np.inf), np.zeros(x.size, np.int64)

    monkeypatch.setattr(ladder, "MAX_PRECISION", ladder.MP_START - 1)
    monkeypatch.setattr(double_double_tier, "enclose", knows_nothing)
    result = reference("xielu", "forward", None, np.array([-0.5, 0.5]), "bf16")
    assert result.undecided.all() and (result.tier == TIERS.index("balls")).all()


# -- the instrument is seen to fail ---------------------------------------------------------------


def _mutated(function: str, output: str, name: str) -> list[str]:
    params = dict(get_function(function).parameter_sets["init"])
    x = sample(function, output, params, name, seed=3)
    return disagreements(function, output, params, x, FORMATS[name])


@pytest.mark.parametrize("mutation", ["tail", "ulp", "rounded"])
def test_a_wrong_decision_is_caught(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    true = settle.settle

    def wrong(
        high: Any, low: Any, radius: Any, nudge: Any, fmt: Any,
        rounded: Any, tail: Any, ulp: Any, exact: Any, sign: Any, certain: Any,
    ) -> None:  # fmt: skip
        true(high, low, radius, nudge, fmt, rounded, tail, ulp, exact, sign, certain)
        if mutation == "tail":
            tail *= -1
        elif mutation == "ulp":
            ulp *= 2
        else:
            rounded[:] = np.nextafter(rounded, np.inf)

    assert not _mutated("xielu", "forward", "bf16")
    monkeypatch.setattr(settle, "settle", wrong)
    assert _mutated("xielu", "forward", "bf16")


@pytest.mark.parametrize(("name", "size"), [("fp32", 2.0**-30), ("fp64", 2.0**-60)])
def test_a_wrong_value_with_a_small_radius_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, size: float
) -> None:
    true = double_double_tier.enclose

    def wrong(case: Any, x: np.ndarray) -> Any:
        high, low, radius, nudge = true(case, x)
        return high, low + high * size, radius, nudge

    monkeypatch.setattr(double_double_tier, "enclose", wrong)
    assert _mutated("xielu", "grad_alpha_n", name)
