"""One ulp: `scoring.errors` defines what an error is, is held to fractions, and holds all that is faster.

Directed values of every kernel format: edges of binades, subnormals, ties, the overflow threshold, ±0; and
beside each computed values that are right, near, far, of the other sign, infinite and NaN. By default each
format has one of the weights in turn; the exhaustive run adds the others.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import host_program
import numpy as np
import pytest
import torch
from exact_rounding import exact_rounding, exact_ulp, overflowed, same
from turns import in_turn

from precision_lab.formats import KERNEL_FORMATS, FloatFormat, get_format
from precision_lab.functions import get_function
from precision_lab.numeric.certainty import CERTIFIED_ULPS, SMALLEST
from precision_lab.oracle import Reference
from precision_lab.oracle.curve import NEAR, POSITIVE, Curve
from precision_lab.oracle.decide import decide
from precision_lab.oracle.format_row import format_row
from precision_lab.oracle.program import program
from precision_lab.scoring import columns, errors, first_tier
from precision_lab.scoring.one_value import score_many
from precision_lab.scoring.scorer import MAX_OUTPUTS
from precision_lab.scoring.settled import Counts, settled
from precision_lab.scoring.tile_records import Left

CASES = [(name, saturating) for name in KERNEL_FORMATS for saturating in (False, True)]
NARROW = [(name, saturating) for name, saturating in CASES if get_format(name).bits <= 32]
# Weights on fp32 numbers x, so that w·x is in fp32 an edge, a tie, beside one, and subnormal.
WEIGHTS = (1.0, 1 + 2.0**-24, 1 - 2.0**-25, 1 + 2.0**-23 + 2.0**-40, 1.5 * 2.0**-40)


class Truth(NamedTuple):
    """What is so of one computed value, in fractions; no error where either side is no number."""

    error: Fraction | None
    misrounded: bool
    nonfinite: bool
    wrong_sign: bool
    subnormal: bool


def truth(y: float, value: Fraction, fmt: FloatFormat, saturating: bool) -> Truth:
    rounded = exact_rounding(value, fmt, saturating)
    error = None
    if math.isfinite(y) and math.isfinite(rounded):
        # Beyond halfway from the largest number to the next, being beyond is all that counts.
        beyond = overflowed(value, exact_rounding(value, fmt), fmt)
        error = abs(Fraction(y) - (Fraction(rounded) if beyond else value)) / exact_ulp(value, fmt)
    matters = abs(value) >= Fraction(fmt.min_subnormal) / 2
    opposite = (y < 0 < value) or (value < 0 < y)
    mismatch = not same(y, rounded) and not (math.isfinite(y) and math.isfinite(rounded))
    subnormal = 0 < abs(value) < Fraction(fmt.min_normal)
    return Truth(error, not same(y, rounded), mismatch, matters and opposite, subnormal)


def numbers(fmt: FloatFormat) -> np.ndarray:
    """Numbers of a format at every place where a rule changes, of both signs."""
    per_binade = 1 << fmt.fraction_bits
    edges = [k * per_binade for k in (1, 2, 3, fmt.bias, fmt.bias + 1, (fmt.max_ordinal // per_binade))]
    ordinals = {0, 1, 2, 3, fmt.max_ordinal - 1, fmt.max_ordinal}
    ordinals |= {edge + k for edge in edges for k in (-1, 0, 1) if 0 <= edge + k <= fmt.max_ordinal}
    found = np.asarray(fmt.from_ordinal(np.array(sorted(ordinals))), np.float64)
    return np.concatenate([found, -found])


def values(fmt: FloatFormat) -> list[Fraction]:
    """These numbers, what lies halfway to the next, and what lies beside those."""
    found: set[Fraction] = set()
    for number in numbers(fmt):
        value = Fraction(float(number))
        ulp = exact_ulp(value, fmt)
        beside = Fraction(1, 2**20)
        for step in (
            Fraction(0),
            Fraction(1, 4),
            Fraction(1, 2),
            Fraction(1, 2) - beside,
            Fraction(1, 2) + beside,
        ):
            found.add(value + step * ulp)
    limit, least = Fraction(2) ** 1023, Fraction(2) ** -1074
    return sorted(v for v in found if abs(v) <= limit and (v / least).denominator == 1)


def candidates(value: Fraction, fmt: FloatFormat, saturating: bool) -> list[float]:
    """Computed values beside an exact one."""
    rounded = exact_rounding(value, fmt, saturating)
    finite = rounded if math.isfinite(rounded) else math.copysign(fmt.max_finite, value)
    at = int(fmt.ordinal(np.array([abs(finite)]))[0])
    near = np.array([min(max(at + k, 0), fmt.max_ordinal) for k in (-1, 1, 2, 40)])
    # A kernel may give an infinity that its format has not.
    found = [rounded, -rounded, 0.0, -0.0, math.inf, -math.inf, math.nan, fmt.max_finite, -fmt.min_subnormal]
    sign = math.copysign(1.0, finite)
    found += [sign * float(v) for v in fmt.from_ordinal(near)]
    return found


def exact(given: list[Fraction], fmt: FloatFormat, saturating: bool) -> Reference:
    """The reference of exact values, as `decide` settles them."""
    n = len(given)
    rounded, tail, ulp, undecided = np.empty(n), np.empty(n), np.empty(n), np.zeros(n, np.bool_)
    for i, value in enumerate(given):
        high = float(value)
        low = float(value - Fraction(high))
        assert Fraction(high) + Fraction(low) == value
        rounded[i], tail[i], ulp[i], certain = decide(high, low, 0.0, 0, format_row(fmt, saturating))
        undecided[i] = not certain
    floats = np.array([float(v) for v in given])
    sign = np.sign(floats).astype(np.int8)
    return Reference(fmt, rounded, tail, ulp, floats, sign, np.zeros(n, np.uint8), undecided)


def every_pair(fmt: FloatFormat, saturating: bool) -> tuple[list[Fraction], np.ndarray]:
    pairs = [(v, y) for v in values(fmt) for y in candidates(v, fmt, saturating)]
    if fmt.bits == 64:  # an error, or a difference, beyond float64 is infinite, or its largest number
        within = [math.isfinite((y - float(v)) / float(exact_ulp(v, fmt))) for v, y in pairs]
        pairs = [pair for pair, ok in zip(pairs, within, strict=True) if ok or not math.isfinite(pair[1])]
    return [v for v, _ in pairs], np.array([y for _, y in pairs])


def close(found: float, true: Fraction, allowed: float) -> bool:
    return abs(Fraction(found) - true) <= Fraction(allowed) * max(Fraction(1), true)


@pytest.mark.parametrize(("name", "saturating"), CASES)
def test_errors_are_what_fractions_give(name: str, saturating: bool) -> None:
    """The definition itself, on exact values that `decide` settles."""
    fmt = get_format(name)
    given, y = every_pair(fmt, saturating)
    reference = exact(given, fmt, saturating)
    assert not reference.undecided.any()
    with np.errstate(invalid="ignore"):
        found = [
            errors.ulp_error(y, reference),
            errors.not_correctly_rounded(y, reference),
            errors.nonfinite_mismatch(y, reference),
            errors.wrong_sign(y, reference),
        ]
    for value, computed, ulp, error, *flags in zip(given, y.tolist(), reference.ulp, *found, strict=True):
        true = truth(computed, value, fmt, saturating)
        assert Fraction(ulp) == exact_ulp(value, fmt), value
        if Fraction(float(value)) == value:
            assert fmt.ulp(np.array([float(value)])).tolist() == [ulp], value
        assert flags == [true.misrounded, true.nonfinite, true.wrong_sign], (value, computed)
        assert math.isnan(error) == (true.error is None), (value, computed)
        assert true.error is None or close(abs(error), true.error, 2.0**-50), (value, computed)


def judge(rows: np.ndarray, i: int, true: Truth, allowed: float, context: object) -> None:
    """Holds the two rows of cell i, which counted one value, to the truth."""
    row = rows[2 * i + (1 if true.subnormal else 0)]
    assert row[columns.N] == 1 and rows[2 * i : 2 * i + 2, columns.N].sum() == 1, context
    assert bool(row[columns.MISROUNDED]) == true.misrounded, context
    assert bool(row[columns.NONFINITE]) == true.nonfinite, context
    assert bool(row[columns.WRONG_SIGN]) == true.wrong_sign, context
    assert bool(row[columns.VALID]) == (true.error is not None), context
    if true.error is not None:
        largest = float(row[columns.MAX_ERROR : columns.MAX_ERROR + 1].view(np.float64)[0])
        assert close(largest, true.error, allowed), context


@pytest.mark.parametrize(("name", "saturating"), CASES)
def test_one_value_at_a_time_is_counted_as_defined(name: str, saturating: bool) -> None:
    """`score_one` after `decide`."""
    fmt = get_format(name)
    given, y = every_pair(fmt, saturating)
    reference = exact(given, fmt, saturating)
    rows, cells = columns.empty(len(given)), np.arange(len(given))
    counts = Counts(rows, np.zeros(columns.BINS, np.int64))
    score_many(counts, cells, format_row(fmt, saturating), cells, y, settled(reference), reference.undecided)
    for i, (value, computed) in enumerate(zip(given, y.tolist(), strict=True)):
        judge(rows, i, truth(computed, value, fmt, saturating), 2.0**-50, (value, computed))


class Tiles(NamedTuple):
    """Tiles of one input each, or of two of which the second is NaN: w·x, and what was computed."""

    x: np.ndarray
    y: np.ndarray
    values: list[Fraction]
    each: int


def tiles(fmt: FloatFormat, saturating: bool, weight: float, each: int) -> Tiles:
    x = numbers(get_format("fp32"))
    if fmt.bits < 32:  # what is directed in the format itself, as fp32 numbers
        x = np.concatenate([x, [float(v) for v in values(fmt) if float(np.float32(float(v))) == v]])
    x = x[x != 0]
    pairs = [(a, y) for a in x.tolist() for y in candidates(Fraction(a) * Fraction(weight), fmt, saturating)]
    inputs = np.repeat(np.array([a for a, _ in pairs], np.float32), each)
    computed = np.full(inputs.size, np.nan, np.float32)
    computed[::each] = [y for _, y in pairs]
    return Tiles(inputs, computed, [Fraction(a) * Fraction(weight) for a, _ in pairs], each)


def first_tier_rows(given: Tiles, fmt: FloatFormat, saturating: bool, weight: float) -> np.ndarray:
    """Rows of the compiled first tier, tile i in cell i; w·x stands for a function's value."""
    curve = Curve(get_function("prelu"), "forward", {"alpha": 1.0})  # x: the term that `weight` multiplies
    found = program((curve,))
    found = found._replace(weights=found.weights * weight)
    n = len(given.values)
    start = np.arange(n) * given.each
    stretch = np.where(given.x[start] > 0, POSITIVE, NEAR)
    runs = np.stack([start, start + given.each, np.arange(n), stretch], axis=1)
    rows = columns.empty(n)
    nothing = np.zeros(0, np.float32)
    ys = (given.y, *[nothing] * (MAX_OUTPUTS - 1))
    first_tier.score_chunk(
        first_tier.Chunk(given.x, ys, 1, runs, np.zeros(0, np.int64), 0), found,
        format_row(fmt, saturating)[None], Counts(rows[None], np.zeros((1, columns.BINS), np.int64)),
        Left(np.empty((1, given.x.size), np.int64), np.zeros((1, 1), np.int64)), np.full((1, 2, 4), -1.0),
        first_tier.PROBE,
    )  # fmt: skip
    return rows


@pytest.mark.parametrize(("name", "saturating", "weight"), in_turn(NARROW, WEIGHTS))
def test_a_tile_is_counted_as_defined(name: str, saturating: bool, weight: float) -> None:
    """Of one binade, where it is decided at all; most are."""
    fmt = get_format(name)
    given = tiles(fmt, saturating, weight, 1)
    rows = first_tier_rows(given, fmt, saturating, weight)
    decided = 0
    for i, (value, computed) in enumerate(zip(given.values, given.y.tolist(), strict=True)):
        if rows[2 * i : 2 * i + 2, columns.N].any():
            decided += 1
            judge(rows, i, truth(computed, value, fmt, saturating), 2.0**-20, (value, computed))
    assert decided > len(given.values) / 4


@pytest.mark.parametrize(("name", "saturating", "weight"), in_turn(NARROW, WEIGHTS[1:3]))
def test_a_value_beside_a_nan_is_counted_as_defined(name: str, saturating: bool, weight: float) -> None:
    """A tile with a NaN is judged input by input; the NaN is a mismatch or right, and no error."""
    fmt = get_format(name)
    given = tiles(fmt, saturating, weight, 2)
    rows = first_tier_rows(given, fmt, saturating, weight)
    decided = 0
    for i, value in enumerate(given.values):
        nan = truth(math.nan, value, fmt, saturating)
        row = rows[2 * i + (1 if nan.subnormal else 0)]
        if row[columns.N] < 2:  # one of them is left
            continue
        decided += 1
        row[columns.N] -= 1
        row[columns.MISROUNDED] -= nan.misrounded
        row[columns.NONFINITE] -= nan.nonfinite
        computed = float(given.y[2 * i])
        judge(rows, i, truth(computed, value, fmt, saturating), 2.0**-20, (value, computed))
    assert decided > len(given.values) / 4


@pytest.mark.skipif(host_program.COMPILER is None, reason="no C++ compiler (g++ or clang++)")
def test_the_cuda_sources_tiles_are_the_same(tmp_path: Path) -> None:
    """Row by row those of the compiled first tier, which the tests above hold to the definition."""
    compiled = host_program.HostProgram(tmp_path)
    found = program((Curve(get_function("prelu"), "forward", {"alpha": 1.0}),))
    for name, saturating in NARROW:
        fmt = get_format(name)
        for weight, each in ((w, each) for w in WEIGHTS[:3] for each in (1, 2)):
            given = tiles(fmt, saturating, weight, each)
            here = first_tier_rows(given, fmt, saturating, weight)
            n = len(given.values)
            start = np.arange(n) * each
            stretch = np.where(given.x[start] > 0, POSITIVE, NEAR)
            where = np.stack([start, np.full(n, each), np.arange(n), stretch, np.zeros(n, np.int64)], axis=1)
            rows = columns.empty(n)
            arrays = [
                format_row(fmt, saturating), found.slots[:, 0], found.weights[:, 0] * weight,
                found.relative[:, 0], found.absolute[:, 0], found.windows[:, 0], found.pivots[:, 0],
                *found.tables,
            ]  # fmt: skip
            formula = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
            ends, records = torch.empty((n, 6), dtype=torch.float64), torch.zeros((n, 8), dtype=torch.int64)
            left, n_left = torch.empty(given.x.size, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
            tiles_, theirs = torch.from_numpy(where), torch.from_numpy(rows)
            histogram = torch.zeros(columns.BINS, dtype=torch.int64)
            compiled.launch(
                "score_tiles", n, 1,
                [
                    torch.from_numpy(given.x), torch.from_numpy(given.y), None, 0, tiles_, 1, *formula,
                    found.tables.layout.shape[1], theirs, histogram, left, n_left, ends, records,
                ],
            )  # fmt: skip
            for stage in range(3):
                compiled.launch("settle", n, 1, [n, tiles_, ends, formula[0], records, theirs, stage])
            rows[:, columns.MONOTONE] = here[:, columns.MONOTONE] = 0  # steps between tiles are not asked for
            assert np.argwhere(rows != here).tolist() == [], (name, saturating, weight, each)


def test_errors_are_certified_as_far_as_the_documents_and_the_gpus_program_say() -> None:
    root = Path(__file__).parents[2]
    program_text = (root / "precision_lab/scoring/score.cu").read_text("utf-8")
    (defined,) = re.findall(r"#define CERTIFIED_ULPS (\S+)", program_text)
    assert float.fromhex(defined) == CERTIFIED_ULPS == 2**-10
    assert math.ulp(0.0) == SMALLEST
    assert "2⁻¹⁰ ulp" in (root / "docs/architecture.md").read_text("utf-8")
