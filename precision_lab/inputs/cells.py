"""Which cell every bit pattern lies in: its sign, exponent and region, as runs of neighbouring patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.formula.expression import Expression
from precision_lab.functions import Activation
from precision_lab.inputs.sets import REGIONS, region_thresholds, regions
from precision_lab.oracle import EDGE, FAR, NEAR, POSITIVE
from precision_lab.oracle.domain import empty_between, partial
from precision_lab.oracle.plain_roots import edges_of

SPECIAL_STRETCH = -1  # ±0, infinities and NaN, which have a path of their own
EMPTY_STRETCH = -2  # where the function has no value, as √x for x < 0

# NaN and infinity, then ±0: regions that are not cut into binades.
_SPECIAL, _ZERO = REGIONS.index("special"), REGIONS.index("zero")


@dataclass(frozen=True)
class Cells:
    """The patterns of a format, cut into cells for one function and its parameters.

    Cell i holds the patterns from starts[i] to before starts[i + 1]; arrays of shape (cells,).

    Attributes:
        region: index into `inputs.sets.REGIONS`.
        sign, exponent: of the inputs; both 0 for ±0, infinities and NaN.
        stretch: which of the oracle's formulas applies; -1 for ±0, infinities and NaN, -2 where there is no
            value, proven.
    """

    fmt: FloatFormat
    starts: NDArray[np.uint64]
    region: NDArray[np.int64]
    sign: NDArray[np.int64]
    exponent: NDArray[np.int64]
    stretch: NDArray[np.int64]

    def runs(self, patterns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """start, end, cell and stretch of each stretch of ascending patterns in one cell."""
        cell = np.searchsorted(self.starts, patterns, side="right") - 1
        change = np.flatnonzero(np.diff(cell)) + 1
        first = np.concatenate(([0], change)) if patterns.size else np.zeros(0, np.int64)
        last = np.append(change, patterns.size) if patterns.size else first
        chosen = cell[first]
        return np.stack([first, last, chosen, self.stretch[chosen]], axis=1).astype(np.int64)

    def runs_between(self, first: int, end: int, *, every: int = 0) -> NDArray[np.int64]:
        """`runs` of all patterns from `first` to before `end`, without listing them.

        Args:
            every: also cut at multiples of this pattern.
        """
        low = int(np.searchsorted(self.starts, np.uint64(first), side="right")) - 1
        high = int(np.searchsorted(self.starts, np.uint64(end - 1), side="right"))
        starts = self.starts[low:high].astype(np.int64)
        begin = np.maximum(starts, first)
        if every:
            begin = np.union1d(begin, np.arange(-(-first // every) * every, end, every))
        cell = low + np.searchsorted(starts, begin, side="right") - 1
        begin -= first
        stop = np.append(begin[1:], end - first)
        return np.stack([begin, stop, cell, self.stretch[cell]], axis=1).astype(np.int64)


def cells(fmt: FloatFormat, function: Activation, params: Mapping[str, float]) -> Cells:
    """The cells of a format for a function at given effective parameters."""
    return _cells(fmt, function, tuple(sorted(params.items())))


@lru_cache(maxsize=128)
def _cells(fmt: FloatFormat, function: Activation, items: tuple[tuple[str, float], ...]) -> Cells:
    params = dict(items)
    limit = 1 << (fmt.bits - 1)  # patterns of one sign
    edges = {0, 1}
    edges |= {1 << k for k in range(fmt.fraction_bits)}  # binades of the subnormals
    edges |= {biased << fmt.fraction_bits for biased in range(1, fmt.emax - fmt.emin + 2)}
    edges.add(int(fmt.encode(np.array([fmt.max_finite]))[0]) + 1)
    # Regions change at a threshold or at the number next to it, depending on which end is closed.
    for threshold in region_thresholds(fmt, function, params):
        nearest = int(fmt.encode(fmt.round(np.array([abs(threshold)])))[0])
        edges |= {nearest + step for step in (-1, 0, 1, 2)}
    # What a formula is at an edge of it, its conditions say: an edge is a cell of its own.
    own = [edge for edge in edges_of(function, params) if float(fmt.round(np.array([edge]))[0]) == edge]
    for edge in own:
        nearest = int(fmt.encode(np.array([abs(edge)]))[0])
        edges |= {nearest, nearest + 1}
    magnitudes = np.array(sorted(e for e in edges if 0 <= e < limit), np.uint64)
    starts = np.concatenate([magnitudes, magnitudes + np.uint64(limit)])
    x = fmt.decode(starts.astype(fmt.bits_dtype))
    _, region = regions(x, fmt, function, params)
    finite = np.isfinite(x) & (x != 0)
    _, exponent = np.frexp(np.where(finite, x, 1.0))
    sign = np.where(finite, np.where(x < 0, -1, 1), 0)
    exponent = np.where(finite, exponent - 1, 0).astype(np.int64)
    stretch = np.where(
        finite, np.where(x > 0, POSITIVE, np.where(x <= -1, FAR, NEAR)), SPECIAL_STRETCH
    ).astype(np.int64)
    stretch[np.isin(x, own)] = EDGE
    # Neighbouring stretches that agree in everything are one cell.
    kinds: NDArray[Any] = np.stack([sign, exponent, region.astype(np.int64), stretch])
    keep = np.concatenate(([True], (np.diff(kinds, axis=1) != 0).any(axis=0)))
    keep[len(magnitudes)] = True
    found = Cells(
        fmt,
        starts[keep],
        region[keep].astype(np.int64),
        sign[keep].astype(np.int64),
        exponent[keep],
        stretch[keep],
    )
    _mark_empty(found, function.bound_expression("forward", function.check_params(params)))
    return found


def _mark_empty(found: Cells, forward: Expression) -> None:
    """Cells all of whose inputs are outside of the function's domain.

    Not of narrow formats, whose inputs are all taken at once.
    """
    if found.fmt.bits <= 16 or not partial(forward):
        return
    finite = np.flatnonzero(found.sign)
    last = np.append(found.starts[1:] - np.uint64(1), np.uint64((1 << found.fmt.bits) - 1))
    ends = [found.fmt.decode(bits[finite].astype(found.fmt.bits_dtype)) for bits in (found.starts, last)]
    for cell, a, b in zip(finite, *(end.tolist() for end in ends), strict=True):
        if empty_between(forward, min(a, b), max(a, b)):
            found.stretch[cell] = EMPTY_STRETCH
