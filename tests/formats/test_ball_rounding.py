"""`decide` and `round_ball` against a rounding written with fractions alone."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exact_rounding import exact_rounding, exact_ulp, overflowed, same
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath.libmp import fone, from_float, from_man_exp, fzero, mpf_add, mpf_gt, mpf_shift, mpf_sub

from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.formats.ball_rounding import float_above, round_ball
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.oracle.decide import decide
from precision_lab.oracle.format_row import format_row

SETTINGS = settings(max_examples=400, deadline=None, derandomize=True, database=None)
ROUNDED = [name for name, fmt in FORMATS.items() if fmt.rounds]
FORMAT_NAMES = st.sampled_from(sorted(ROUNDED))


def one(
    high: float, low: float, radius: float, fmt: FloatFormat, *, saturating: bool = False, nudge: int = 0
) -> Any:
    """What `decide` says, and the error that its tail may have."""
    rounded, tail, ulp, decided = decide(high, low, radius, nudge, format_row(fmt, saturating))
    # The tail is a float64 next to 1/2 at most: half its last place.
    error = radius / ulp + 2.0**-54 if math.isfinite(rounded) else 0.0
    found = {"rounded": rounded, "tail": tail, "ulp": ulp, "decided": decided, "tail_error": error}
    return SimpleNamespace(**{name: np.array([value]) for name, value in found.items()})


def boundaries(fmt: FloatFormat) -> list[Fraction]:
    """Numbers, midpoints and powers of two of a format at every place where a rule changes."""
    ordinals = {0, 1, 2, 3, fmt.max_ordinal, fmt.max_ordinal - 1}
    per_binade = 1 << fmt.fraction_bits
    exponents = {1, 2, fmt.emax - fmt.emin, (fmt.emax - fmt.emin) // 2 + 1}
    for exponent in exponents:
        ordinals |= {exponent * per_binade + k for k in (-2, -1, 0, 1, 2)}
    numbers = [Fraction(float(v)) for v in fmt.from_ordinal(np.array(sorted(ordinals))) if math.isfinite(v)]
    steps = [(v + v + exact_ulp(v, fmt)) / 2 for v in numbers]
    return [v for v in numbers + steps if v]


def split(value: Fraction) -> tuple[float, float, Fraction]:
    """high, low and the rest of a number."""
    high = float(value)
    low = float(value - Fraction(high))
    return high, low, value - Fraction(high) - Fraction(low)


def tail_rounds_to_a_tie(value: Fraction, fmt: FloatFormat) -> bool:
    """The one reason to leave an exact number to the next tier: its tail is a tie only as a float64."""
    part = abs(value) / exact_ulp(value, fmt) % 1
    return part != Fraction(1, 2) and float(part) == 0.5


def representable(fmt: FloatFormat) -> list[tuple[float, float, Fraction]]:
    """Boundaries and their double-double neighbours on both sides, both signs, as exact pairs."""
    cases = []
    for boundary in boundaries(fmt):
        for relative in (0, Fraction(1, 2**90), -Fraction(1, 2**90), Fraction(1, 2**30), -Fraction(1, 2**30)):
            try:
                high, low, rest = split(boundary * (1 + relative))
            except OverflowError:
                continue
            if rest == 0 and math.isfinite(high):
                cases += [(high, low, boundary), (-high, -low, -boundary)]
    return cases


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("saturating", [False, True])
def test_exact_numbers_round_as_fractions_do(name: str, saturating: bool) -> None:
    fmt = FORMATS[name]
    cases = representable(fmt)
    assert len(cases) > 100
    for high, low, _ in cases:
        got = one(high, low, 0.0, fmt, saturating=saturating)
        value = Fraction(high) + Fraction(low)
        expected = exact_rounding(value, fmt, saturating)
        if not got.decided[0]:
            assert tail_rounds_to_a_tie(value, fmt), (high.hex(), low.hex())
            continue
        assert same(got.rounded[0], expected), (high.hex(), low.hex(), got, expected)
        if math.isfinite(expected) and abs(expected) < fmt.max_finite:
            assert Fraction(got.ulp[0]) == exact_ulp(value, fmt), (high.hex(), low.hex())
            tail = (value - Fraction(expected)) / exact_ulp(value, fmt)
            assert abs(Fraction(got.tail[0]) - tail) <= Fraction(got.tail_error[0]) + Fraction(1, 2**50)


@pytest.mark.parametrize("name", ROUNDED)
def test_an_enclosure_that_straddles_a_boundary_is_never_decided(name: str) -> None:
    fmt = FORMATS[name]
    straddling = 0
    for high, low, boundary in representable(fmt):
        value = Fraction(high) + Fraction(low)
        for factor in (Fraction(1, 2), Fraction(1), Fraction(3, 2)):
            distance = abs(value - boundary) or exact_ulp(value, fmt) / 2**20
            try:
                radius = float(distance * factor)
            except OverflowError:
                continue
            ends = (value - Fraction(radius), value + Fraction(radius))
            results = {(exact_rounding(v, fmt), exact_ulp(v, fmt)) for v in ends}
            if any(math.isnan(r) for r, _ in results) or radius == 0:
                continue
            got = one(high, low, radius, fmt)
            if len(results) > 1 and len({r for r, _ in results if math.isinf(r)}) == 0:
                straddling += 1
                assert not got.decided[0], (high.hex(), low.hex(), radius.hex(), results)
            elif got.decided[0]:
                assert got.rounded[0] in {r for r, _ in results}
    assert straddling > 20


@SETTINGS
@given(FORMAT_NAMES, st.integers(), st.fractions(-1, 1), st.floats(-60, 5), st.booleans(), st.booleans())
def test_decided_means_both_ends_round_alike(
    name: str, seed: int, low_part: Fraction, radius_log: float, negative: bool, with_low: bool
) -> None:
    fmt = FORMATS[name]
    rng = np.random.default_rng(abs(seed))
    number = Fraction(float(fmt.from_ordinal(np.array([rng.integers(0, fmt.max_ordinal)]))[0]))
    ulp = exact_ulp(number, fmt)
    # Near numbers and midpoints, at distances of every magnitude.
    value = (
        number + ulp * Fraction(int(rng.integers(0, 3)), 2) + ulp * low_part / 2 ** int(rng.integers(0, 80))
    )
    if negative:
        value = -value
    high, low, _ = split(value)
    if not with_low:
        low = 0.0
    if not math.isfinite(high):
        return
    radius = float(ulp) * 2.0**radius_log
    value = Fraction(high) + Fraction(low)
    got = one(high, low, radius, fmt)
    ends = [value - Fraction(radius), value + Fraction(radius)]
    results = [exact_rounding(v, fmt) for v in ends]
    if got.decided[0]:
        assert same(*results) and same(got.rounded[0], results[0])
        if math.isfinite(results[0]):
            assert exact_ulp(ends[0], fmt) == exact_ulp(ends[1], fmt) == Fraction(got.ulp[0])
            assert got.tail_error[0] <= CERTIFIED_ULPS
            for v in ends:
                tail = (v - Fraction(results[0])) / Fraction(got.ulp[0])
                assert abs(tail - Fraction(got.tail[0])) <= Fraction(got.tail_error[0]) * (
                    1 + Fraction(1, 2**40)
                )
    elif radius < float(ulp) * 2.0**-12 and math.isfinite(results[0]):
        # Giving up needs a reason: a boundary of rounding or of a binade within twice the radius.
        wider = [value - 3 * Fraction(radius), value + 3 * Fraction(radius)]
        facts = {(exact_rounding(v, fmt), exact_ulp(v, fmt, capped=False)) for v in wider}
        assert len(facts) > 1 or radius == 0


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("nudge", [-1, 1])
def test_a_nudge_acts_as_an_infinitesimal_would(name: str, nudge: int) -> None:
    fmt = FORMATS[name]
    for high, low, _ in representable(fmt):
        value = Fraction(high) + Fraction(low)
        nudged = value + nudge * exact_ulp(value, fmt) / 2**200
        got = one(high, low, 0.0, fmt, nudge=nudge)
        expected = exact_rounding(nudged, fmt)
        if not got.decided[0]:
            assert tail_rounds_to_a_tie(value, fmt), (high.hex(), low.hex())
            continue
        assert same(got.rounded[0], expected), (high.hex(), low.hex(), nudge)
        if math.isfinite(expected):
            assert Fraction(got.ulp[0]) == exact_ulp(nudged, fmt), (high.hex(), low.hex(), nudge)


@pytest.mark.parametrize("name", ROUNDED)
def test_a_nudged_zero_takes_the_nudges_sign(name: str) -> None:
    for nudge in (-1, 1):
        got = one(0.0, 0.0, 0.0, FORMATS[name], nudge=nudge)
        assert got.rounded[0] == 0 and math.copysign(1, got.rounded[0]) == nudge and got.decided[0]


def test_a_low_part_that_underflows_beside_a_tie_is_left_to_the_next_tier() -> None:
    """2^20·(1 + 2^-8) + 2^-1074 rounds up in bf16; in ulps of 2^13 its low part vanishes."""
    fmt = FORMATS["bf16"]
    for quarter, low in ((1, 5e-324), (3, -5e-324)):
        assert not one(2.0**20 * (1 + quarter * 2.0**-8), low, 0.0, fmt).decided[0]
    off_tie = one(2.0**20 * (1 + 2.0**-9), 5e-324, 0.0, fmt)
    assert off_tie.decided[0] and off_tie.rounded[0] == 2.0**20


def test_unknown_and_infinite_enclosures_are_undecided() -> None:
    fmt = FORMATS["fp32"]
    for high, low, radius in (
        (1.0, 0.0, math.nan),
        (math.inf, 0.0, 0.0),
        (math.nan, 0.0, 0.0),
        (1.0, 0.0, math.inf),
    ):
        assert not one(high, low, radius, fmt).decided[0]


def as_libmp(value: Fraction) -> Any:
    if value == 0:
        return fzero
    return from_man_exp(value.numerator, 1 - value.denominator.bit_length())


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("saturating", [False, True])
def test_balls_round_as_fractions_do(name: str, saturating: bool) -> None:
    fmt = FORMATS[name]
    decided = straddling = 0
    for boundary in boundaries(fmt):
        ulp = exact_ulp(boundary, fmt)
        for offset in (0, Fraction(1, 2**50), -Fraction(1, 2**50), Fraction(1, 2**200), -Fraction(1, 2**200)):
            for radius in (Fraction(0), Fraction(1, 2**51), Fraction(1, 2**210), Fraction(1, 2**20)):
                for sign in (1, -1):
                    value = sign * (boundary + offset * ulp)
                    rounded, tail, error, got_ulp, sure = round_ball(
                        as_libmp(value), as_libmp(radius * ulp), fmt, saturating=saturating
                    )
                    ends = (value - radius * ulp, value + radius * ulp)
                    results = [exact_rounding(v, fmt, saturating) for v in ends]
                    alike = same(*results) and exact_ulp(ends[0], fmt) == exact_ulp(ends[1], fmt)
                    if sure:
                        decided += 1
                        assert alike and same(rounded, results[0]), (value, radius)
                        if math.isfinite(rounded) and abs(rounded) < fmt.max_finite:
                            exact_tail = (value - Fraction(rounded)) / exact_ulp(value, fmt)
                            assert Fraction(got_ulp) == exact_ulp(value, fmt)
                            assert abs(exact_tail - Fraction(tail)) <= Fraction(error) + Fraction(1, 2**50)
                    else:
                        straddling += not alike
                        assert radius, "an exact number was not decided"
    assert decided > 100 and straddling > 20


def test_a_zero_ball_rounds_to_zero() -> None:
    assert round_ball(fzero, fzero, FORMATS["fp16"]) == (0.0, 0.0, 0.0, 2.0**-24, True)


# -- next to a tie nothing is too small to matter ---------------------------------------------------

FAR_BELOW_FLOAT64 = (1074, 1075, 1200, 5000, 10**10)  # radii of 2^-k ulps


def ties(fmt: FloatFormat) -> list[Fraction]:
    return [b for b in boundaries(fmt) if abs(b) / exact_ulp(b, fmt) % 1 == Fraction(1, 2)]


@pytest.mark.parametrize("name", ROUNDED)
def test_a_ball_around_a_tie_is_undecided_however_small_its_radius(name: str) -> None:
    fmt = FORMATS[name]
    for tie in ties(fmt):
        for k in FAR_BELOW_FLOAT64:
            radius = mpf_shift(as_libmp(exact_ulp(tie, fmt)), -k)
            for value in (tie, -tie):
                rounded, _, error, _, sure = round_ball(as_libmp(value), radius, fmt)
                assert not sure and (error > 0 or overflowed(value, rounded, fmt)), (tie, k)


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("side", [-1, 1])
def test_one_side_of_a_number_rounds_as_an_infinitesimal_does(name: str, side: int) -> None:
    fmt = FORMATS[name]
    for boundary in [*boundaries(fmt), Fraction(0)]:
        for value in (boundary, -boundary):
            ulp = exact_ulp(value, fmt)
            nudged = value + side * ulp / 2**4000
            for k in FAR_BELOW_FLOAT64:
                radius = mpf_shift(as_libmp(ulp), -k)
                rounded, tail, error, got_ulp, sure = round_ball(as_libmp(value), radius, fmt, side=side)
                assert sure and same(rounded, exact_rounding(nudged, fmt)), (value, k)
                assert math.isnan(rounded) or math.copysign(1, rounded) == (-1 if nudged < 0 else 1)
                if not overflowed(nudged, rounded, fmt):
                    assert Fraction(got_ulp) == exact_ulp(nudged, fmt) and error > 0
                    exact_tail = (nudged - Fraction(rounded)) / exact_ulp(nudged, fmt)
                    assert abs(exact_tail - Fraction(tail)) < 2**-50
                    assert rounded != 0 or abs(tail) != 0.5, "beside half the smallest number is no tie"


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("side", [-1, 1])
def test_one_side_of_a_number_is_undecided_where_it_reaches_the_next_boundary(name: str, side: int) -> None:
    fmt = FORMATS[name]
    decided = straddling = 0
    for boundary in boundaries(fmt):
        for value in (boundary, -boundary):
            ulp = exact_ulp(value, fmt)
            for radius in (ulp / 2**11, ulp / 2, ulp, 2 * ulp):
                start, end = value + side * ulp / 2**4000, value + side * radius
                results = {(exact_rounding(v, fmt), exact_ulp(v, fmt)) for v in (start, end)}
                rounded, _, error, _, sure = round_ball(as_libmp(value), as_libmp(radius), fmt, side=side)
                if math.isnan(rounded):
                    continue
                if sure:
                    decided += 1
                    assert {r for r, _ in results} == {rounded}, (value, radius)
                    assert len(results) == 1 or math.isinf(rounded)
                else:
                    straddling += len(results) > 1
                    assert len(results) > 1 or error > CERTIFIED_ULPS, (value, radius)
    assert decided > 10 and straddling > 10


def test_a_value_without_digits_in_float64_needs_no_memory_to_round() -> None:
    """e^(−10^10) as a fraction would have 10^10 bits."""
    tiny, radius = from_man_exp(-3, -(10**10)), from_man_exp(1, -(10**10) - 60)
    for fmt in map(FORMATS.get, ROUNDED):
        rounded, tail, error, _, sure = round_ball(tiny, radius, fmt)
        assert sure and rounded == 0 and math.copysign(1, rounded) == -1
        assert -1e-300 < tail < 0 < error < 1e-300


@SETTINGS
@given(st.integers(1, 2**70), st.integers(-1200, 900))
@example(5, -1076)  # 1.25 smallest numbers: `to_float` rounds that down, whatever it is told
@example(2**54 + 1, -1074)
@example(2**53 - 1, -1075)
@example(1, -1075)
@example(1, -(10**10))
def test_float_above_is_the_next_float_that_is_not_below(man: int, exp: int) -> None:
    value = from_man_exp(man, exp)
    found = float_above(value)
    below = math.nextafter(found, 0.0)
    assert not mpf_gt(value, from_float(found)) and mpf_gt(value, from_float(below))


@pytest.mark.parametrize("name", ["bf16", "fp32", "fp64"])
def test_a_radius_that_is_nothing_in_ulps_still_keeps_a_tie_open(name: str) -> None:
    """radius/ulp underflows to 0, which would say that the number is exact."""
    fmt = FORMATS[name]
    for exponent in (fmt.precision, 60, 100, fmt.emax - 1):
        for odd in (1, 3):
            high = 2.0**exponent * (1 + odd * 2.0**-fmt.precision) if name != "fp64" else 2.0**exponent
            low = 0.0 if name != "fp64" else odd * 2.0 ** (exponent - 53)
            if name == "fp64" and odd == 3:
                high, low = high * (1 + 2.0**-52), 2.0 ** (exponent - 53)
            assert not one(high, low, 5e-324, fmt).decided[0]
            assert not one(-high, -low, 5e-324, fmt).decided[0]
            exact = one(high, low, 0.0, fmt)
            value = Fraction(high) + Fraction(low)
            assert exact.decided[0] and exact.rounded[0] == exact_rounding(value, fmt)
            assert abs(exact.tail[0]) == 0.5


def test_beside_half_the_smallest_number_is_no_tie() -> None:
    """`score_one` counts signs at a tie there, and not below it."""
    for fmt in map(FORMATS.get, ROUNDED):
        if fmt.min_subnormal > 2.0**-1000:
            for nudge in (-2, -1, 1, 2):
                got = one(fmt.min_subnormal / 2, 0.0, 0.0, fmt, nudge=nudge)
                assert got.decided[0] and got.rounded[0] == (fmt.min_subnormal if nudge > 0 else 0)
                assert got.rounded[0] != 0 or abs(got.tail[0]) < 0.5


@pytest.mark.parametrize("name", ROUNDED)
def test_a_ball_wider_than_a_thousandth_of_an_ulp_is_undecided(name: str) -> None:
    """Though every number in it rounds alike."""
    fmt = FORMATS[name]
    unit = mpf_shift(fone, -fmt.fraction_bits)
    middle = mpf_add(fone, mpf_shift(unit, -2))  # a quarter of an ulp beyond 1
    for exponent, decided in ((-10, True), (-9, False)):
        *_, found = round_ball(middle, mpf_shift(unit, exponent), fmt)
        assert found is decided


@pytest.mark.parametrize("name", [name for name in ROUNDED if name != "fp64"])
def test_a_ball_beside_half_the_smallest_number_is_no_tie(name: str) -> None:
    """Nearer to it than float64's tails tell apart."""
    fmt = FORMATS[name]
    half = mpf_shift(from_float(fmt.min_subnormal), -1)
    below = mpf_sub(half, mpf_shift(half, -80))
    rounded, tail, _, _, decided = round_ball(below, mpf_shift(half, -90), fmt)
    assert decided and rounded == 0 and abs(tail) < 0.5
    rounded, tail, _, _, decided = round_ball(half, fzero, fmt)
    assert decided and rounded == 0 and tail == 0.5
