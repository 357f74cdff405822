"""Which way errors go on average: signed means with their standard errors, and the lean of roundings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.inputs.cells import Cells
from precision_lab.scoring import columns

Rows = NDArray[np.int64]

# Inputs of a standard normal distribution that must have been measured for its bias to mean something.
COVERED = 0.99
ORDINARY = (-8, 8)  # exponents of x, from and below
SPREAD = 4  # of a cell's correct roundings, one in so many must go each way for its roundings to count


def judged_rows(cells: Cells) -> NDArray[np.bool_]:
    """The rows whose roundings count: those of inputs of ordinary size, where networks have theirs.

    Far below and far above, all the lab's functions come near c·x^k, so that one rounding of c moves the
    results of all these binades alike, which would look like a lean.
    """
    low, high = ORDINARY
    return np.repeat((cells.sign != 0) & (cells.exponent >= low) & (cells.exponent < high), 2)


def signed_statistics(rows: Rows, normal: Rows, judged: Rows, precision: int) -> dict[str, Any]:
    """The fields of `results.Signed` over some rows of a tally.

    Args:
        normal: the rows whose relative errors count; judged: those whose roundings do.
        precision: of the output format.
    """
    ulps, ulps_error, nearest = _ulps(rows)
    relative, relative_error, nearest_relative = _relative(normal, precision)
    found: dict[str, Any] = {
        "mean_signed_ulp": ulps,
        "signed_ulp_error": ulps_error,
        "nearest_signed_ulp": nearest,
        "mean_signed_relative": relative,
        "signed_relative_error": relative_error,
        "nearest_signed_relative": nearest_relative,
    }
    counts = judged[:, columns.INEXACT :].reshape(-1, columns.NEGATIVE)
    # Where nearly all correct roundings of a cell go one way, as next to a constant, many inputs share one.
    spread = SPREAD * np.minimum(counts[:, 1], counts[:, 0] - counts[:, 1]) >= counts[:, 0]
    sides = np.where(spread[:, None], counts, 0).reshape(-1, 2, columns.NEGATIVE).sum(axis=0)
    for suffix, row in (("", sides.sum(axis=0)), ("_positive", sides[0]), ("_negative", sides[1])):
        n, nearest_away, away, toward = (int(count) for count in row)
        found[f"inexact{suffix}"] = n
        found[f"lean{suffix}"] = (away / (n - nearest_away) - toward / nearest_away) / 2 if n else None
    return found


def _ulps(rows: Rows) -> tuple[float | None, float | None, float | None]:
    """Mean signed error, its standard error, and the correct rounding's mean, in ulps."""
    valid = int(rows[:, columns.VALID].sum())
    if not valid:
        return None, None, None
    total = rows.sum(axis=0)
    unit = 1 << columns.SUM_BITS
    signed = _divided(columns.signed_error(total), valid * unit)
    worst = float(rows[:, columns.MAX_ERROR].max().view(np.float64))
    squares = columns.pair(total, columns.SQUARES) / (valid * unit)
    error = _standard_error(signed, squares, valid) if worst <= columns.CLIP else None
    return signed, error, columns.pair(total, columns.NEAREST) / (valid * unit)


def _relative(rows: Rows, precision: int) -> tuple[float | None, float | None, float | None]:
    """The same of relative errors."""
    valid = int(rows[:, columns.VALID].sum())
    if not valid:
        return None, None, None
    total = rows.sum(axis=0)
    unit = 1 << int(columns.relative_bits(precision))
    signed = columns.pair(total, columns.RELATIVE) / (valid * unit)
    worst = float(rows[:, columns.MAX_RELATIVE].max().astype(np.int32).view(np.float32))
    squares = columns.pair(total, columns.RELATIVE_SQUARES) / (valid << columns.SUM_BITS)
    squares *= 4.0**-precision  # from units of 2^-p
    error = _standard_error(signed, squares, valid) if worst <= columns.CLIP * 2.0**-precision else None
    return signed, error, columns.pair(total, columns.NEAREST_RELATIVE) / (valid * unit)


def _standard_error(mean: float, mean_square: float, count: int) -> float:
    return math.sqrt(max(mean_square - mean * mean, 0.0) / count)


def _divided(numerator: int, denominator: int) -> float:
    """A quotient of integers, infinite where it is beyond float64."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf  # which `copysign` would convert first


def normal_bias(cells: Cells, rows: Rows, precision: int) -> tuple[float, float] | None:
    """Mean relative error for inputs of a standard normal distribution, and the correct rounding's.

    Each cell counts with the probability of its interval; within a cell every measured input counts
    the same, as if the density were level there. A binade's worth of it is not, so that this is the
    bias of inputs with that spread of magnitudes rather than an integral.

    None where too little of the distribution was measured.
    """
    edges = cells.fmt.decode(cells.starts.astype(cells.fmt.bits_dtype))
    low = np.abs(edges)
    high = np.append(low[1:], np.inf)
    high[np.isnan(high)] = np.inf
    # Upper tails, so that none of the digits cancels far out.
    mass = np.array(
        [
            0.5 * (math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2))) if sign else 0.0
            for a, b, sign in zip(low.tolist(), high.tolist(), cells.sign.tolist(), strict=True)
        ]
    )
    pairs = rows.reshape(-1, 2, columns.COLUMNS).sum(axis=1)
    valid = pairs[:, columns.VALID]
    measured = valid > 0
    covered = float(mass[measured].sum())
    if covered < COVERED:
        return None
    unit = 1 << int(columns.relative_bits(precision))
    weight = mass[measured] / (covered * unit * valid[measured])
    means = []
    for column in (columns.RELATIVE, columns.NEAREST_RELATIVE):
        sums = pairs[measured, column].astype(np.float64) + 2.0**31 * pairs[measured, column + 1]
        means.append(float((weight * sums).sum()))
    return means[0], means[1]


__all__ = ["judged_rows", "normal_bias", "signed_statistics"]
