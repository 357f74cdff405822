"""What the stages of scoring a tile hand on to each other; numba compiles NamedTuples."""

from __future__ import annotations

from typing import Any, NamedTuple

from precision_lab.numeric.jit import compiled


class Tile(NamedTuple):
    """Neighbouring inputs of one cell, what was computed there, and what is exact.

    Attributes:
        y: computed values, float32; s: float64 values within b of the exact ones; shape (n,) and more.
        start: index in the chunk of the first input; cell: the cell that all are of.
        patterns: of the chunk's inputs; empty where input i has pattern offset + i.
    """

    y: Any
    s: Any
    b: Any
    n: int
    start: int
    cell: int
    patterns: Any
    offset: int


class Extent(NamedTuple):
    """Where a tile's exact values lie.

    Attributes:
        smallest, largest: of |s|; widest: of b.
        pivot, side: where side is not 0, every |exact value| is known to be above (1) or below (-1) pivot,
            however near: a gradient of 1/2 + tiny has the ulp of 1/2 or of what lies below it. With
            pivot 0, side is the values' sign.
    """

    smallest: float
    largest: float
    widest: float
    pivot: float
    side: int


class Left(NamedTuple):
    """Indices of inputs that this tier cannot decide, and in an array of one how many there are."""

    indices: Any
    count: Any


class Scratch(NamedTuple):
    """Room for a tile's results, negative where they lie toward zero.

    Attributes:
        error: in ulps; error32: at least FLOOR, infinite where a mismatch.
        size32: of the exact value in ulps, at least FLOOR; infinite where the result is left.
        bins: of the histogram.
    """

    error: Any
    error32: Any
    size32: Any
    bins: Any


class Judged(NamedTuple):
    """One computed value beside the exact one, in ulps.

    Attributes:
        difference: computed − exact; size: |exact|.
        near: the bound, as a distance from a tie. doubtful: ulp, error or rounding are not certain.
    """

    difference: float
    size: float
    near: float
    doubtful: bool


class Found(NamedTuple):
    """What a tile's results add up to; float64 bits of the largest error, else counts and units."""

    undecided: int
    misrounded: int
    nonfinite: int
    largest_bits: int
    nearest: int
    nearest_relative: int
    roundings: int
    negative: int


@compiled
def leave(left: Left, index: int) -> None:
    """Appends one input."""
    left.indices[left.count[0]] = index
    left.count[0] += 1


@compiled
def pattern_of(tile: Tile, i: int) -> int:
    """The pattern of a tile's i-th input."""
    at: int = tile.patterns[tile.start + i] if tile.patterns.size else tile.offset + tile.start + i
    return at
