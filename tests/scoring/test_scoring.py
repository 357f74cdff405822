"""The fused pass against `metrics`, its tiers against each other, and what results must not depend on.

By default each set of parameters is looked at in one format, and each extreme one for one function, in turn;
the exhaustive run adds the other, other processors, and every number of fp32 in two tiers.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from by_name import Scorer, cells
from turns import in_turn

from precision_lab.exceptions import EnvironmentAltersResultsError
from precision_lab.formats import FORMATS, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.measuring.measure import measure
from precision_lab.oracle import FAR, NEAR, POSITIVE, double_double_tier, evaluate, reference
from precision_lab.oracle.curve import SLOTS, Curve
from precision_lab.oracle.program import RELATIVE, program
from precision_lab.scoring import columns
from precision_lab.scoring import errors as metrics
from precision_lab.scoring import first_tier as fused
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.tally import Tally

# Other formulas' pieces are held to Arb in test_formula_pieces.
SETS = [(f.name, params) for f in FUNCTIONS.values() if f.sides for params in f.parameter_sets]


def computed(exact: Any, seed: int) -> np.ndarray:
    """Correctly rounded values, some of them moved, negated, zeroed, or made NaN or infinite."""
    fmt, rng = exact.fmt, np.random.default_rng(seed)
    y = exact.rounded.copy()
    kind = rng.integers(0, 12, y.size)
    moved = (kind <= 3) & np.isfinite(y)
    steps = rng.integers(-3, 4, y.size)
    y[moved] = fmt.from_ordinal(
        np.clip(fmt.ordinal(y[moved]) + steps[moved], -fmt.max_ordinal, fmt.max_ordinal)
    )
    y[kind == 4] *= -1
    y[kind == 5] = 0.0
    y[kind == 6] = -0.0
    y[kind == 7] = np.nan
    if fmt.has_infinity:
        y[kind == 8] = np.inf
    far = (kind == 9) & np.isfinite(y)
    y[far] = fmt.from_ordinal(rng.integers(-fmt.max_ordinal, fmt.max_ordinal, int(far.sum())))
    return y


def score(function: str, output: str, params: Any, fmt: str, bits: np.ndarray, y: np.ndarray) -> Tally:
    source = get_format(fmt)
    found = cells(source, function, params)
    scorer = Scorer(found, function, (output,), params, (source,))
    patterns = bits.astype(np.uint64)
    x = source.decode(bits).astype(np.float32)
    scorer.score(x, [y.astype(np.float32)], found.runs(patterns), Patterns.of(patterns))
    return scorer.finish()[0]


def expected(exact: Any, y: np.ndarray, x: np.ndarray, output: str) -> dict[str, Any]:
    asked = ~np.isnan(x) | (output == "forward")
    errors = metrics.ulp_error(y, exact)
    valid = np.isfinite(errors) & asked
    size = np.abs(errors[valid])
    return {
        "n": x.size,
        "valid": int(valid.sum()),
        "misrounded": int((metrics.not_correctly_rounded(y, exact) & asked).sum()),
        "wrong": int((metrics.wrong_sign(y, exact) & asked).sum()),
        "nonfinite": int((metrics.nonfinite_mismatch(y, exact) & asked).sum()),
        "zero": int((metrics.zero_sign_mismatch(y, exact, x, output) & asked).sum()),
        "max": float(size.max()) if size.size else 0.0,
        "mean": math.fsum(size) / max(size.size, 1),
        **signed(exact, y, errors, valid),
    }


def signed(exact: Any, y: np.ndarray, errors: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
    """Errors away from zero, those of the correct rounding, and which way results were rounded."""
    nameless = (exact.exact == 0) | (exact.sign == 0)
    away = np.where(nameless, np.where(y == 0, -1, 1) * np.abs(errors), errors * exact.sign)
    nearest = np.where(nameless, -np.abs(exact.tail), -exact.tail * exact.sign)
    size = np.abs(exact.exact) / exact.ulp
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share, nearest_share = (np.clip(v / size, -1, 1) for v in (away, nearest))
    gone = (exact.rounded == 0) & (exact.exact != 0)  # all is lost
    share = np.where(exact.exact == 0, np.sign(away), np.where(gone & (y == 0), -1, share))
    nearest_share = np.where(exact.exact == 0, 0, np.where(gone, -1, nearest_share))
    rounded = valid & (np.abs(exact.tail) > 2.0**-10) & (np.abs(errors) < 1 - 2.0**-11)
    other = rounded & (y != exact.rounded)
    ties = valid & (0.5 - np.abs(exact.tail) < 2.0**-20) & (np.abs(errors) > 0.75)
    means = {"signed": away, "nearest": nearest, "relative": share, "nearest_relative": nearest_share}
    means["squares"] = np.minimum(np.abs(errors), 1024) ** 2
    means["relative_squares"] = np.minimum(np.abs(share) * 2.0**exact.fmt.precision, 1024) ** 2
    return {
        **{name: math.fsum(values[valid]) / max(valid.sum(), 1) for name, values in means.items()},
        # The first tier does not ask which way a tie goes that no result near it asks for.
        "ties": float(ties.sum()) / 2,
        # An exact value 2^-10 ulp from a number: whether that is near is left to each tier's digits.
        "edge": int((valid & (np.abs(np.abs(exact.tail) - 2.0**-10) < 2.0**-20)).sum()),
        "relative_ties": math.fsum(np.abs(nearest_share[ties])),
        "inexact": int(rounded.sum()),
        "negative": int((rounded & (exact.sign < 0)).sum()),
        "nearest_away": int((rounded & (nearest > 0)).sum()),
        "away": int((other & (away > 0)).sum()),
        "toward": int((other & (away < 0)).sum()),
    }


def close(seen: dict[str, Any], true: dict[str, Any], precision: int, output: str) -> None:
    """Compares the means and counts of roundings, and takes them out, so that the exact counts are left."""
    edge = true.pop("edge")
    for key in ("inexact", "negative", "nearest_away", "away", "toward"):
        assert abs(seen.pop(key) - true.pop(key)) <= edge, (output, key)
    ties, relative_ties = (true.pop(key) / max(true["valid"], 1) for key in ("ties", "relative_ties"))
    relative = {key: 2.0 ** (-precision - 9) for key in ("relative", "nearest_relative")}
    for key in ("max", "mean", "signed", "nearest", "squares", "relative_squares", *relative):
        allowed = relative.get(key, 2.0**-9)
        allowed += {"nearest": ties, "nearest_relative": relative_ties}.get(key, 0.0)
        assert seen.pop(key) == pytest.approx(true.pop(key), abs=allowed, rel=1e-6), (output, key)


def counted(tally: Tally, precision: int) -> dict[str, Any]:
    total = tally.rows.sum(axis=0)
    valid = int(total[columns.VALID])
    way = sum(columns.signed_error(row) for row in tally.rows)
    relative = 2.0 ** int(columns.relative_bits(precision))
    pairs = {
        "nearest": (columns.NEAREST, 2.0**20),
        "relative": (columns.RELATIVE, relative),
        "nearest_relative": (columns.NEAREST_RELATIVE, relative),
        "squares": (columns.SQUARES, 2.0**20),
        "relative_squares": (columns.RELATIVE_SQUARES, 2.0**20),
    }
    sides = total[columns.INEXACT :].reshape(2, columns.NEGATIVE)
    errors = sum(columns.total_error(row) for row in tally.rows)
    return {
        "n": int(total[columns.N]),
        "valid": valid,
        "misrounded": int(total[columns.MISROUNDED]),
        "wrong": int(total[columns.WRONG_SIGN]),
        "nonfinite": int(total[columns.NONFINITE]),
        "zero": int(total[columns.ZERO_SIGN]),
        "max": float(tally.rows[:, columns.MAX_ERROR].max().view(np.float64)),
        "mean": float(Fraction(errors, 2**20 * max(valid, 1))) if errors < 2**1000 else math.inf,
        "signed": float(Fraction(way, 2**20 * max(valid, 1))) if abs(way) < 2**1000 else math.inf,
        **{name: columns.pair(total, c) / unit / max(valid, 1) for name, (c, unit) in pairs.items()},
        "negative": int(sides[1, 0]),
        **dict(zip(("inexact", "nearest_away", "away", "toward"), sides.sum(axis=0).tolist(), strict=True)),
    }


@pytest.mark.parametrize(("function", "name", "fmt"), in_turn(SETS, ["bf16", "fp16"]), ids=str)
def test_every_count_is_what_the_definitions_give(function: str, name: str, fmt: str) -> None:
    source, definition = get_format(fmt), get_function(function)
    bits = source.all_bits()
    x = source.decode(bits)
    params = {
        key: float(source.round(np.array([value]))[0])
        for key, value in definition.parameter_sets[name].items()
    }
    for k, output in enumerate(definition.outputs):
        exact = reference(function, output, params, x, fmt)
        y = computed(exact, k)
        found = score(function, output, params, fmt, bits, y)
        true, seen = expected(exact, y, x, output), counted(found, source.precision)
        assert found.undecided.size == 0
        assert int(found.tiers.sum()) == x.size
        assert int(found.histogram.sum()) == true["valid"]
        # The pass knows the sign of some values that the reference only knows to be next to nothing.
        unknown = (exact.sign == 0) & (exact.exact != 0) & (y != 0) & np.isfinite(y)
        errors = np.abs(metrics.ulp_error(y, exact)[unknown])
        for key, size in (("signed", errors), ("relative", np.minimum(errors, 1))):
            if abs(true[key] - seen[key]) * true["valid"] <= 2.001 * math.fsum(size):
                seen[key] = true[key]
        close(seen, true, source.precision, output)
        nameless = np.count_nonzero((y == 0) & (exact.rounded == 0) & (exact.sign == 0) & (exact.exact != 0))
        assert 0 <= seen.pop("zero") - true.pop("zero") <= nameless, output
        assert seen == true, output


EXTREMES = [
    {"alpha_p": 1e-30, "alpha_n": 1e-30, "beta": 0.5},
    {"alpha_p": 1e30, "alpha_n": 1e30, "beta": 0.5},
    {"alpha_p": 1e-40, "alpha_n": 1e-40, "beta": 0.5},
    {"alpha_p": 0.8, "alpha_n": 0.25, "beta": 0.5},
    {"alpha_p": 0.8, "alpha_n": 0.5, "beta": 0.5},
    {"alpha_p": 0.8, "alpha_n": 1.0, "beta": 0.5},
    {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.0},
    {"alpha_p": 0.8, "alpha_n": 0.8, "beta": -0.5},
    {"alpha_p": 3.0, "alpha_n": 0.75, "beta": 0.75},
]


@pytest.mark.parametrize(
    ("params", "function"),
    in_turn(EXTREMES, ["xielu", "xiprelu"]),
    ids=lambda p: p if isinstance(p, str) else f"{p['alpha_n']:g}-{p['beta']:g}",
)
def test_extreme_parameters_are_certified(params: dict[str, float], function: str) -> None:
    source = get_format("fp32")
    params = {key: float(np.float32(value)) for key, value in params.items()}
    from by_name import stratified

    bits = stratified("fp32", function, params, per_binade=8)
    x = source.decode(bits)
    definition = get_function(function)
    for k, output in enumerate(definition.outputs):
        exact = reference(function, output, params, x, "fp32")
        assert not exact.undecided.any()
        y = computed(exact, k)
        found = score(function, output, params, "fp32", bits, y)
        true, seen = expected(exact, y, x, output), counted(found, source.precision)
        assert found.undecided.size == 0
        close(seen, true, source.precision, output)
        assert seen == true, output
        # And the reference itself against mpmath, where the tiers have most to do.
        for i in np.random.default_rng(k).choice(np.flatnonzero(np.isfinite(x)), 8, replace=False):
            value = evaluate(function, float(x[i]), params, output=output, bits=120)
            assert abs(value - exact.exact[i]) <= 2.0**-48 * abs(value) + 2.0**-1070


def tally_of(x: np.ndarray, y: np.ndarray, bound: float) -> Tally:
    """Counts of ReLU of fp32 numbers stored as bf16, were the first tier's bound so large."""
    source = get_format("fp32")
    found = cells(source, "relu", {})
    scorer = Scorer(found, "relu", ("forward",), {}, (get_format("bf16"),))
    known = scorer._program
    scorer._program = known._replace(absolute=np.where(known.relative > 0, bound, known.absolute))
    patterns = source.encode(x).astype(np.uint64)
    scorer.score(x.astype(np.float32), [y.astype(np.float32)], found.runs(patterns), Patterns.of(patterns))
    return scorer.finish()[0]


def tiers_of(x: np.ndarray, y: np.ndarray, bound: float) -> list[int]:
    """Inputs that each tier settled."""
    return list(tally_of(x, y, bound).tiers)


@pytest.mark.parametrize("mixed", [False, True], ids=["uniform", "with an infinity"])
def test_what_lies_within_the_bound_of_a_rounding_is_left_to_the_next_tier(mixed: bool) -> None:
    """Ties of bf16 and fp32 numbers beside them: f is x, its bound 2^-11 ulp of bf16."""
    ulp, bound = 2.0**-7, 2.0**-18
    ties = 1 + ulp * (np.arange(1, 101) + 0.5)
    for offset, left in ((bound / 2, True), (-bound / 2, True), (4 * bound, False), (-4 * bound, False)):
        x, y = ties + offset, ties + ulp / 2
        if mixed:  # then the tile is judged input by input
            y[-1] = np.inf
        tiers = tiers_of(x, y, bound)
        # An infinity is wrong wherever the exact value lies.
        assert tiers[2] in ((100, 99) if left else (0,)), offset
        assert sum(tiers) == 100


def test_correct_bits_are_of_every_result_once_whichever_tier_settles_it() -> None:
    """Half of these are left to the next tier, after the first has counted p bits for each."""
    ulp, bound = 2.0**-7, 2.0**-18
    x = 1 + ulp * (np.arange(1, 101) + np.where(np.arange(100) % 2, 0.5, 0.25)) + bound / 2
    y = np.floor(x / ulp) * ulp
    found = tally_of(x, y, bound)
    assert found.tiers[1:3].tolist() == [50, 50]
    bits = float(found.rows[:, columns.BITS].sum()) / columns.BITS_SCALE
    assert bits == pytest.approx(float(np.minimum(-np.log2((x - y) / x), 8).sum()), abs=100 * 2.0**-10)


def test_what_lies_within_the_bound_of_a_binades_edge_is_left_to_the_next_tier() -> None:
    """Its ulp is not known: of 2 − 2^-23 and of 2, each within 2^-18, and of none a little farther away."""
    bound = 2.0**-18
    assert tiers_of(np.array([2 - 2.0**-23]), np.array([2.0]), bound)[1:] == [0, 1, 0]
    assert tiers_of(np.array([2.0]), np.array([2.0]), bound)[1:] == [0, 1, 0]
    assert tiers_of(np.array([2 - 2.0**-16]), np.array([2.0]), bound)[1:] == [1, 0, 0]
    assert tiers_of(np.array([2 + 2.0**-16]), np.array([2.0]), bound)[1:] == [1, 0, 0]


def test_an_error_that_is_not_certain_to_a_thousandth_of_an_ulp_is_left_to_the_next_tier() -> None:
    x = np.array([1.25, 1.5])
    assert tiers_of(x, x, 2.0**-7 * 2.0**-10.1)[1:] == [2, 0, 0]
    assert tiers_of(x, x, 2.0**-7 * 2.0**-9.9)[1:] == [0, 2, 0]


def errors_of(function: str, output: str, x: list[float], y: list[float]) -> list[float]:
    """|error| in ulps of each fp32 result, measured alone."""
    found = []
    for point, value in zip(x, y, strict=True):
        bits = np.array([point], np.float32).view(np.uint32)
        params = get_function(function).check_params({})
        tally = score(function, output, params, "fp32", bits, np.array([value]))
        found.append(float(tally.rows[:, columns.MAX_ERROR].max().view(np.float64)))
    return found


def test_a_value_next_to_an_exact_constant_has_the_ulp_of_its_side() -> None:
    """Above a power of two an ulp is twice as large as below: 1/2 ± 2^-61, −1 + e^-45, 1 − e^-40.

    All four are that power to float64's precision, and one step of the larger ulp too large.
    """
    assert errors_of("silu", "grad_x", [2.0**-60, -(2.0**-60)], [0.5 + 2.0**-24] * 2) == [
        pytest.approx(1, abs=2.0**-9), pytest.approx(2, abs=2.0**-9)
    ]  # fmt: skip
    assert errors_of("elu", "forward", [-45.0], [-1 - 2.0**-23]) == [pytest.approx(2, abs=2.0**-9)]
    assert errors_of("softplus", "grad_x", [40.0], [1 + 2.0**-23]) == [pytest.approx(2, abs=2.0**-9)]
    assert errors_of("silu", "grad_x", [80.0], [1 + 2.0**-23]) == [pytest.approx(1, abs=2.0**-9)]


def test_a_value_next_to_a_level_extremum_has_the_ulp_of_its_side() -> None:
    """1/4 − x²/16, 1 − x² and 1/2 + 2.4·x² for x = ±2^-60, all of them one step too large."""
    for function, value in (("sigmoid", 0.25), ("tanh", 1.0)):
        above = value + value * 2.0**-23
        assert (
            errors_of(function, "grad_x", [2.0**-60, -(2.0**-60)], [above] * 2)
            == [pytest.approx(2, abs=2.0**-9)] * 2
        )
    assert errors_of("xielu_cubic", "grad_x", [2.0**-60], [0.5 + 2.0**-24]) == [pytest.approx(1, abs=2.0**-9)]


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_a_level_extremum_needs_no_second_tier(function: str) -> None:
    x = np.ldexp(1.0, -np.arange(31, 149))
    found = measure("torch", function, fmt="fp32", output="grad_x", inputs=np.concatenate([x, -x]))
    assert found.escalated["float64"] == 2 * x.size and found.max_ulp < 2.0**-9


def test_a_sums_bound_is_of_its_worst_term() -> None:
    """Of α_n·(e^x − 1 − x) + β·x the first, whatever comes after it."""
    from precision_lab.numeric.error_free import U

    definition = get_function("xielu")
    case = Curve(definition, "forward", definition.check_params({}))
    terms = case.terms(NEAR)
    worst = max(RELATIVE[SLOTS[term.basis]] for term in terms)
    assert RELATIVE[SLOTS[terms[-1].basis]] < worst
    assert program((case,)).relative[NEAR, 0] >= worst + (len(terms) + 1) * U


def test_a_raw_gradient_is_measured_against_its_factor() -> None:
    """σ(a) = 1 − e^(−θ): 0.55 for α_p = 0.8, and what rounds it right is no error."""
    params = get_function("xielu").check_params({})
    x = np.array([0.75, 1.5, 3.0], np.float32)
    exact = [float(evaluate("xielu", float(v), params, output="grad_raw_alpha_p")) for v in x]
    assert exact[0] == pytest.approx(0.75**2 * -math.expm1(-0.8))
    tally = score("xielu", "grad_raw_alpha_p", params, "fp32", x.view(np.uint32), np.array(exact, np.float32))
    assert int(tally.rows[:, columns.MISROUNDED].sum()) == 0 and int(tally.tiers[1]) == 3


def test_a_saturated_tile_of_the_wrong_sign_is_wrong() -> None:
    source, params = get_format("fp32"), {"alpha": 1.0}
    x = -np.linspace(1000, 1023, 24)
    found = cells(source, "prelu", params)
    for sign, wrong in ((-1, 0), (1, 24)):
        scorer = Scorer(found, "prelu", ("forward",), params, (get_format("e4m3"),), saturating=True)
        patterns = source.encode(source.round(x)).astype(np.uint64)
        y = np.full(24, sign * 448, np.float32)
        scorer.score(x.astype(np.float32), [y], found.runs(patterns), Patterns.of(patterns))
        total = scorer.finish()[0].rows.sum(axis=0)
        assert (total[columns.N], total[columns.WRONG_SIGN], total[columns.MISROUNDED]) == (24, wrong, wrong)


def test_a_tables_bound_counts_as_often_as_its_value() -> None:
    """2.6·f is off by 2.6 times what f is: 1 + 2α of the expanded functions."""
    values, errors = np.zeros((fused.TABLE + 1, 8)), np.zeros((1, 8))
    values[fused.TABLE], errors[0] = np.linspace(0.5, 1, 8), np.linspace(1e-9, 2e-9, 8)
    slots = np.array([fused.TABLE, *[-1] * (fused.MAX_TERMS - 1)])
    s, b = np.empty(8), np.empty(8)
    for weight in (2.6, -2.6, 0.25):
        weights = np.array([weight, *[0.0] * (fused.MAX_TERMS - 1)])
        *_, widest = fused.weighted_sum(values, errors, slots, weights, 0.0, 0.0, 8, s, b)
        assert (b >= abs(weight) * errors[0]).all() and (b <= abs(weight) * errors[0] * 1.001).all()
        assert widest == b.max()


@numba.njit
def first_tier(x, stretch, needed, tables, slots, weights, relative, absolute, s, b):  # type: ignore[no-untyped-def]
    values, errors = np.empty((needed.size, fused.TILE)), np.empty((needed.size - fused.TABLE, fused.TILE))
    for start in range(0, x.size, fused.TILE):
        n = min(fused.TILE, x.size - start)
        fused.fill(x[start : start + n], n, needed, values, errors, tables, stretch)
        fused.weighted_sum(
            values, errors, slots, weights, relative, absolute, n, s[start : start + n], b[start : start + n]
        )


def tiers_agree(function: str, output: str, first: int, count: int) -> int:
    """How many of the patterns from `first` on have tier 2 outside tier 1's bound (0 if all is well)."""
    params = {k: float(np.float32(v)) for k, v in get_function(function).parameter_sets["init"].items()}
    case = Curve(get_function(function), output, params)
    p = program((case,))
    wrong = 0
    found = cells("fp32", function, params)
    bits = np.arange(first, first + count, dtype=np.uint32)
    x = bits.view(np.float32)
    tables = (p.tables.layout, p.tables.coefficients, p.tables.bounds, p.tables.asymptotes)
    for start, end, _, stretch in found.runs_between(first, first + count):
        if stretch < 0 or p.slots[stretch, 0, 0] < 0:
            continue
        part = x[start:end]
        s, b = np.empty(part.size), np.empty(part.size)
        first_tier(
            part, stretch, p.needed[stretch], tables, p.slots[stretch, 0], p.weights[stretch, 0],
            p.relative[stretch, 0], p.absolute[stretch, 0], s, b,
        )  # fmt: skip
        high, low, radius, nudge = double_double_tier.enclose(case, part.astype(np.float64))
        apart = np.abs((s - high) - low)
        allowed = (b + radius) * (1 + 2.0**-40) + (nudge != 0) * double_double_tier.NUDGED
        wrong += int(np.count_nonzero(~(apart <= allowed)))
    return wrong


TIER_CASES = [("xielu", o) for o in get_function("xielu").outputs] + [
    (f, o)
    for f in ("xiprelu", "silu", "gelu", "gelu_tanh", "atlu", "softplus", "xsilu")
    for o in ("forward", "grad_x")
]


# The pieces of gelu_tanh's gradient, which nothing else wants by default, take long to fit.
@pytest.mark.parametrize(
    ("function", "output"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (case == ("gelu_tanh", "grad_x")))
        for case in TIER_CASES
    ],
)
def test_the_second_tier_lies_within_the_firsts_bound(function: str, output: str) -> None:
    for first in (
        0x3E800000,
        0xBE800000,
        0xBF7FF000,
        0xC0400000,
        0x00000001,
        0x80000001,
        0x42C80000,
        0xFF000000,
    ):
        assert tiers_agree(function, output, first, 1 << 13) == 0, hex(first)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("function", "output"), TIER_CASES, ids=lambda v: str(v))
def test_the_second_tier_lies_within_the_firsts_bound_everywhere(function: str, output: str) -> None:
    for first in range(0, 1 << 32, 1 << 22):
        assert tiers_agree(function, output, first, 1 << 22) == 0, hex(first)


def test_stretches_are_told_apart_as_the_formulas_need() -> None:
    found = cells("fp32", "xielu", {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5})
    fmt = FORMATS["fp32"]
    for x, stretch in (
        (-1.0, FAR),
        (-0.875, NEAR),
        (-(2.0**-149), NEAR),
        (-(2.0**127), FAR),
        (2.0**-90, POSITIVE),
    ):
        pattern = fmt.encode(np.array([x])).astype(np.uint64)
        assert found.runs(pattern)[0, 3] == stretch


# -- what results must not depend on ----------------------------------------------------------------

DIGEST = """
from precision_lab.formats import BF16
from precision_lab.functions import GELU, SILU, XIELU
from precision_lab.implementations import get_implementation
from precision_lab.measuring.sweep import sweep
from precision_lab.running.case import case_of
for function, name in ((XIELU, "expm1"), (SILU, "torch"), (GELU, "torch")):
    print(sweep(case_of(get_implementation(function, name), BF16)).digest)
"""


def digests(**environment: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


@pytest.mark.slow  # everything is compiled again
@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v2"])
def test_results_are_the_same_bit_for_bit_on_other_processors(cpu: str, tmp_path: Any) -> None:
    """haswell has no AVX-512, x86-64-v2 not even FMA instructions: fma is then a library call."""
    plain = digests()
    assert len(plain) == 3
    assert digests(NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="", PRECISION_LAB_CACHE=str(tmp_path)) == plain


def test_a_fused_multiply_add_rounds_once_and_a_written_one_twice() -> None:
    from precision_lab.numeric.jit import fma

    @numba.njit
    def both(a: np.ndarray, c: np.ndarray, fused_: np.ndarray, written: np.ndarray) -> None:
        for i in range(a.size):
            fused_[i] = fma(a[i], a[i], c[i])
            written[i] = a[i] * a[i] + c[i]

    a, c = np.full(64, 1 + 2.0**-30), np.full(64, -(1 + 2.0**-29))
    fused_, written = np.empty(64), np.empty(64)
    both(a, c, fused_, written)
    assert (fused_ == 2.0**-60).all()
    assert (written == 0).all()


def test_a_thread_that_flushes_is_refused() -> None:
    import torch

    source = get_format("bf16")
    bits = source.all_bits()
    x = source.decode(bits)
    torch.set_flush_denormal(True)
    try:
        assert fused.flushes(fused.PROBE) == 3
        with pytest.raises(EnvironmentAltersResultsError, match="flushes subnormal results and operands"):
            score("relu", "forward", {}, "bf16", bits, x)
    finally:
        torch.set_flush_denormal(False)
    assert fused.flushes(fused.PROBE) == 0


def test_an_exponential_for_positive_x_takes_the_formulas_own_pieces() -> None:
    from precision_lab.formula.expression import X
    from precision_lab.formula.vocabulary import exp
    from precision_lab.oracle.formula_program import STRETCHES

    growing = replace(get_function("elu"), expression=exp(X), parameters=())
    assert not growing.has_terms("forward")
    assert program((Curve(growing, "forward", {}),)).slots.shape[0] == STRETCHES


def test_more_outputs_than_a_pass_takes_are_refused() -> None:
    found = cells("bf16", "relu", {})
    with pytest.raises(ValueError, match="at most 8"):
        Scorer(found, "relu", ("forward",) * 9, {}, (get_format("bf16"),) * 9)


@pytest.mark.parametrize("function", ["xielu", "gelu"])
def test_fp64_is_certified_through_the_second_tier(function: str) -> None:
    from by_name import stratified

    source, definition = get_format("fp64"), get_function(function)
    params = definition.check_params({})
    bits = stratified("fp64", function, params, per_binade=1)
    # Where GELU is below fp64's smallest number only mpmath can say so, and it takes its time.
    bits = np.sort(np.random.default_rng(9).choice(bits, 1000, replace=False))
    bits = bits[(source.decode(bits) > -64) | (function == "xielu")]
    x = source.decode(bits)
    found = cells(source, function, params)
    for k, output in enumerate(("forward", "grad_x")):
        exact = reference(function, output, params, x, "fp64")
        y = computed(exact, k)
        scorer = Scorer(found, function, (output,), params, (source,))
        patterns = bits.astype(np.uint64)
        scorer.score(x, [y], found.runs(patterns), Patterns.of(patterns))
        tally = scorer.finish()[0]
        true, seen = expected(exact, y, x, output), counted(tally, source.precision)
        assert tally.undecided.size == 0
        # Errors beyond float64's range count as its largest number here, and as no figure in `metrics`.
        for key in ("n", "misrounded", "wrong", "nonfinite", "zero", "inexact", "toward"):
            assert seen[key] == true[key], (output, key)


def test_a_remainder_that_fp64_may_see_is_left_to_mpmath() -> None:
    from precision_lab.oracle import TIERS

    # GELU at −41: e^−840 is 2^-1212, but all that the table says is less than 2^-1000.
    near, far = reference("gelu", "forward", None, np.array([-41.0, -81.0]), "fp64").tier
    assert (TIERS[near], TIERS[far]) == ("balls", "double_double")


UNCACHED = """
from precision_lab.measuring.measure import measure
print(measure("torch", "relu", fmt="bf16").max_ulp)
"""


@pytest.mark.slow  # everything is compiled again
def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    folders = {"PRECISION_LAB_CACHE": str(file), "XDG_CACHE_HOME": str(file)}
    result = subprocess.run(
        [sys.executable, "-c", UNCACHED], env={**os.environ, **folders}, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout.strip()) == (0, "0.0"), result.stderr


# -- what stands in for a number too small for float64 ----------------------------------------------


@pytest.mark.parametrize(("function", "x"), [("silu", -1e4), ("silu", -760.0), ("xielu_neg_silu", -1e4)])
@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, -5e-324, 1e-300])
def test_the_sign_of_what_vanishes_in_fp64_matters_to_nobody(function: str, x: float, value: float) -> None:
    """x·e^x at −10^4 is −10^-4339: next to it any tiny number is right but for its size."""
    source = get_format("fp64")
    bits, y = source.encode(np.array([x])), np.array([value])
    definition = get_function(function)
    params = definition.check_params({})
    exact = reference(function, "forward", params, np.array([x]), "fp64")
    assert abs(exact.exact[0]) == 2.0**-1074 and exact.rounded[0] == 0 and exact.sign[0] == -1
    scorer = Scorer(cells(source, function, params), function, ("forward",), params, (source,))
    patterns = bits.astype(np.uint64)
    scorer.score(np.array([x]), [y], scorer.cells.runs(patterns), Patterns.of(patterns))
    total = scorer.finish()[0].rows.sum(axis=0)
    assert total[columns.WRONG_SIGN] == 0 and not metrics.wrong_sign(y, exact)[0]
    assert total[columns.ZERO_SIGN] == int(value == 0 and not np.signbit(value))
    assert total[columns.MISROUNDED] == int(value != 0)
    # A zero for it loses all there is, as in every other format.
    if value == 0:
        assert columns.pair(total, columns.RELATIVE) == -(2 ** int(columns.relative_bits(53)))


def test_half_the_smallest_number_of_fp64_has_a_sign() -> None:
    exact = reference("relu", "forward", {}, np.array([5e-324]), "fp64")
    assert metrics.wrong_sign(np.array([-5e-324]), exact)[0]
