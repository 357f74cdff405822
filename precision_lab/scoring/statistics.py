"""Turns the counts of one output into a `Measurement`: regions, binades, quantiles and witnesses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.inputs.cells import Cells
from precision_lab.inputs.sets import REGIONS
from precision_lab.oracle import TIERS, evaluate
from precision_lab.results import Binade, Measurement, Statistics, Witness
from precision_lab.scoring import columns
from precision_lab.scoring import errors as metrics
from precision_lab.scoring.bias import judged_rows, normal_bias, signed_statistics
from precision_lab.scoring.standard import Standard
from precision_lab.scoring.tally import MINUS_ZERO, NEGATIVE, PLUS_ZERO, POSITIVE, Tally

QUANTILES = ("0.5", "0.9", "0.99", "0.999")

Rows = NDArray[np.int64]
Found = tuple[int, float]  # pattern and computed value


def finish(blank: Measurement, standard: Standard, tally: Tally) -> Measurement:
    """`blank` with everything that was counted; undecided inputs are in none of the figures."""
    rows, out, cells = tally.rows, standard.fmt, standard.cells
    seen = rows[:, columns.N] > 0
    subnormal = np.arange(rows.shape[0]) % 2 == 1
    region = np.repeat(cells.region, 2)
    judged = judged_rows(cells)
    masks = {name: seen & ~subnormal & (region == i) for i, name in enumerate(REGIONS)}
    masks["subnormal_result"] = seen & subnormal
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    parts = {name: rows[mask] for name, mask in masks.items()}
    worst = {name: _worst(part) for name, part in parts.items()}
    everywhere = _worst(rows[seen])
    sign = _first(rows[seen], columns.SIGN_PATTERN)
    nonfinite = _first(rows[seen], columns.NONFINITE_PATTERN)
    shown = _witnesses(standard, [*worst.values(), everywhere, sign, nonfinite])
    overall = _statistics(rows[seen], out.precision, everywhere, shown)
    signed = signed_statistics(rows[seen], rows[seen & ~subnormal], rows[seen & judged], out.precision)
    regions = {
        name: replace(
            _statistics(parts[name], out.precision, worst[name], shown),
            **signed_statistics(parts[name], parts[name], rows[mask & judged], out.precision),
        )
        for name, mask in masks.items()
    }
    return replace(
        blank,
        max_ulp=overall.max_ulp,
        mean_ulp=overall.mean_ulp,
        quantiles=_quantiles(tally.histogram, overall.max_ulp),
        normal_bias=normal_bias(cells, rows, out.precision),
        **signed,
        not_correctly_rounded=overall.not_correctly_rounded,
        wrong_sign=overall.wrong_sign,
        nonfinite_mismatch=overall.nonfinite_mismatch,
        zero_sign_mismatch=int(rows[:, columns.ZERO_SIGN].sum()),
        undecided=int(tally.undecided.size),
        escalated={name: int(count) for name, count in zip(TIERS, tally.tiers, strict=True)},
        monotonicity_violations=_moves(standard, tally),
        jump_at_zero=_jump(standard, tally),
        witness=overall.witness,
        nonfinite_witness=None if nonfinite is None else shown[nonfinite],
        sign_witness=None if sign is None else shown[sign],
        regions=regions,
        binades=_binades(cells, rows, out.precision),
    )


def _float(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))


def _worst(rows: Rows) -> Found | None:
    """The largest error's input; of equal ones the smallest pattern."""
    if rows.size == 0 or rows[:, columns.MAX_ERROR].max() == 0:
        return None
    largest = rows[rows[:, columns.MAX_ERROR] == rows[:, columns.MAX_ERROR].max()]
    row = largest[int(np.argmin(largest[:, columns.MAX_PATTERN].view(np.uint64)))]
    return int(row[columns.MAX_PATTERN]), _float(row[columns.MAX_VALUE])


def _first(rows: Rows, column: int) -> Found | None:
    """The flagged input of smallest magnitude, which is the simplest to think about."""
    flagged = rows[rows[:, column] != columns.NO_PATTERN]
    if flagged.size == 0:
        return None
    sign_bit = flagged[:, column] < 0  # fp64 patterns of negative numbers
    limit = 1 << (63 if sign_bit.any() else max(int(flagged[:, column].max()).bit_length() - 1, 0))
    order = np.lexsort((flagged[:, column], flagged[:, column] & (limit - 1)))
    row = flagged[order[0]]
    return int(row[column]), _float(row[column + 1])


def _statistics(
    rows: Rows, precision: int, worst: Found | None, shown: Mapping[Found, Witness]
) -> Statistics:
    totals = rows.sum(axis=0)
    n, valid = int(totals[columns.N]), int(totals[columns.VALID])
    return Statistics(
        n_inputs=n,
        max_ulp=_float(rows[:, columns.MAX_ERROR].max()) if rows.size else 0.0,
        mean_ulp=float(_sums(rows).sum()) / valid if valid else 0.0,
        not_correctly_rounded=int(totals[columns.MISROUNDED]),
        wrong_sign=int(totals[columns.WRONG_SIGN]),
        nonfinite_mismatch=int(totals[columns.NONFINITE]),
        min_correct_bits=float(_least_bits(rows[:, columns.MAX_RELATIVE].max(), precision)),
        mean_correct_bits=float(_mean_bits(totals[columns.BITS], n, precision)),
        witness=None if worst is None else shown[worst],
    )


def _sums(rows: Rows) -> NDArray[np.float64]:
    """Σ |error| of each row, from integers, in ulps."""
    # The last limbs are beyond float64: a sum that reaches them is that large and no more.
    exponents = 31 * np.arange(columns.LIMBS) - columns.SUM_BITS
    weights = np.ldexp(1.0, np.minimum(exponents, 1023))
    with np.errstate(over="ignore"):
        total: NDArray[np.float64] = (
            rows[:, columns.SUMS : columns.FIRST_COLUMNS].astype(np.float64) * weights
        ).sum(axis=1)
    return total


def _least_bits(relative: Any, precision: int) -> Any:
    """Correct bits of the largest relative error, given as float32 bits; 0 stands for none."""
    value = np.asarray(relative, np.int64).astype(np.int32).view(np.float32).astype(np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(-np.log2(np.where(value == 0, 2.0**-precision, value)), 0.0, precision)


def _mean_bits(total: Any, n: Any, precision: int) -> Any:
    return np.clip(total / np.maximum(n, 1) / columns.BITS_SCALE, 0.0, precision)


def _quantiles(histogram: NDArray[np.int64], largest: float) -> dict[str, float]:
    """Upper bounds of quantiles: of n errors, the ⌈q·n⌉-th smallest is at most so large.

    The upper edge of its histogram bin, which is 1/32 too large or less (2^-12 in the first bin), or the
    maximum if that is smaller. The last bin has no upper edge: errors beyond 2^116 ulps are all in it, so
    that there the maximum is all that is known.
    """
    count = int(histogram.sum())
    if count == 0:
        return dict.fromkeys(QUANTILES, 0.0)
    running = np.cumsum(histogram)
    found = {}
    for name in QUANTILES:
        rank = math.ceil(Fraction(name) * count)
        index = int(np.searchsorted(running, rank))  # the first bin that reaches so many
        found[name] = min(columns.bin_edge(index), largest) if index < columns.BINS - 1 else largest
    return found


def _binades(cells: Cells, rows: Rows, precision: int) -> tuple[Binade, ...]:
    """Per sign and exponent, most negative first.

    No witness: 500 exact decimals a case would dwarf the measurement.
    """
    chosen = np.flatnonzero(cells.sign != 0)
    keys = np.stack([cells.sign[chosen], cells.exponent[chosen]])
    starts = np.concatenate(([0], np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1))
    first = chosen[starts]
    # Cells of one binade are neighbours; what lies between the two signs is special and not chosen.
    pairs = rows.reshape(-1, 2, columns.COLUMNS)[chosen]
    added = np.add.reduceat(pairs.sum(axis=1), starts)
    most = np.maximum.reduceat(pairs.max(axis=1), starts)
    sums = _sums(added)
    n, valid = added[:, columns.N], np.maximum(added[:, columns.VALID], 1)
    least = _least_bits(most[:, columns.MAX_RELATIVE], precision)
    mean_bits = _mean_bits(added[:, columns.BITS], n, precision)
    found = [
        Binade(
            int(cells.sign[first[i]]),
            int(cells.exponent[first[i]]),
            Statistics(
                int(n[i]),
                _float(most[i, columns.MAX_ERROR]),
                float(sums[i] / valid[i]),
                int(added[i, columns.MISROUNDED]),
                int(added[i, columns.WRONG_SIGN]),
                int(added[i, columns.NONFINITE]),
                float(least[i]),
                float(mean_bits[i]),
                None,
            ),
        )
        for i in np.flatnonzero(n)
    ]
    return tuple(sorted(found, key=lambda b: b.sign * (b.exponent + 5000)))


def _witnesses(standard: Standard, found: list[Found | None]) -> dict[Found, Witness]:
    source, out, curve = standard.cells.fmt, standard.fmt, standard.curve
    items = tuple(sorted(curve.params.items()))
    wanted = list(dict.fromkeys(f for f in found if f is not None))
    if not wanted:
        return {}
    patterns = np.array([pattern for pattern, _ in wanted], np.int64)
    x = source.decode(patterns.view(np.uint64).astype(source.bits_dtype))
    computed = np.array([value for _, value in wanted])
    exact = standard.reference(x)
    errors = metrics.ulp_error(computed, exact)
    return {
        key: Witness(
            bits=f"0x{key[0] & ((1 << source.bits) - 1):0{source.bits // 4}x}",
            x=float(x[i]),
            x_hex=float(x[i]).hex(),
            computed=key[1],
            computed_hex=key[1].hex(),
            computed_bits=f"0x{int(out.encode(computed[i : i + 1])[0]):0{out.bits // 4}x}",
            exact=exact_decimal(curve.function, curve.output, items, float(x[i])),
            rounded=float(exact.rounded[i]),
            error_ulps=float(errors[i]),
        )
        for i, key in enumerate(wanted)
    }


@lru_cache(maxsize=65536)
def exact_decimal(function: Activation, output: str, items: tuple[tuple[str, float], ...], x: float) -> str:
    """An exact value to 25 digits, as a `Witness` has it."""
    return str(
        mpmath.nstr(
            evaluate(function, x, dict(items), output=output, bits=100), 25, min_fixed=-4, max_fixed=12
        )
    )


def _around_zero(tally: Tally, source: FloatFormat) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and computed values at −next, −0, +0, +next, as far as they were among the inputs."""
    lines = [tally.near[k] for k in (NEGATIVE, MINUS_ZERO, PLUS_ZERO, POSITIVE)]
    lines = [line for line in lines if line[0] != -1]
    patterns = np.array([line[0] for line in lines], np.int64).view(np.uint64)
    values = np.array([line[1] for line in lines], np.int64).view(np.float64)
    return source.decode(patterns.astype(source.bits_dtype)), values


def _moves(standard: Standard, tally: Tally) -> int:
    """Violations of monotony counted in chunks, between chunks and across 0."""
    source, count = standard.cells.fmt, int(tally.rows[:, columns.MONOTONE].sum())
    count += _moves_between_chunks(tally.edges, standard.fmt, 1 << (source.bits - 1))
    x, y = _around_zero(tally, source)
    if x.size:
        exact = replace(standard, saturating=False).reference(x)
        count += metrics.monotonicity_violations(y, exact, np.arange(x.size))
    return count


def _moves_between_chunks(edges: Rows, fmt: FloatFormat, half: int) -> int:
    """Violations from the last input of a chunk to the first of the next.

    First and last of one chunk are neighbours only in a chunk of two, which there is not.

    Args:
        fmt: of the output; half: the first pattern of a negative number.
    """
    edges = edges[np.argsort(edges[:, 0], kind="stable")]
    pattern, (y, s, b) = edges[:, 0], edges[:, 1:].T.copy().view(np.float64)
    largest = 2.0 ** (fmt.emax - fmt.fraction_bits)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(s[1:]), np.abs(s[:-1]))
        bound = (b[1:] + b[:-1]) * (1 + 2.0**-40)
        against = metrics.moves_against(np.diff(y), np.diff(s), np.minimum(fmt.ulp(size), largest), bound)
    neighbours = (np.diff(pattern) == 1) & (pattern[1:] & (half - 1) != 0)
    return int(np.count_nonzero(neighbours & against))


def _jump(standard: Standard, tally: Tally) -> float:
    x, y = _around_zero(tally, standard.cells.fmt)
    if x.size == 0:
        return float("nan")
    return metrics.jump_at_zero(y, replace(standard, saturating=False).reference(x), x)
