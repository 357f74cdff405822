"""The first tier: one pass over a chunk, tile by tile in cache, all outputs of a function at once.

x → basis functions → Σ c_k·b_k with its bound → ulp error → counts. A tile is at most TILE
neighbouring inputs of one cell, so it has one sign, one binade and one region.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from precision_lab.numeric.jit import ZERO, bits_to_float, compiled, entry, float_to_bits, fma
from precision_lab.oracle.curve import EXP, EXPM1, ONE, POSITIVE, TABLE, X2, X3, Q, X
from precision_lab.oracle.exponential import exp_tile, q_tile
from precision_lab.oracle.piecewise_values import table_tile
from precision_lab.oracle.program_record import MAX_TERMS, Program
from precision_lab.scoring.columns import MONOTONE
from precision_lab.scoring.monotony import count_moves, moves_against
from precision_lab.scoring.settled import Counts
from precision_lab.scoring.tile import score_tile
from precision_lab.scoring.tile_records import Extent, Left, Scratch, Tile

TILE = 1024
# What `probe` must hold; products of its pairs show whether this thread flushes subnormals.
PROBE = np.array([2.0**-1022, 0.5, 2.0**-1074, 2.0**1000])


@compiled
def flushes(probe: Any) -> int:
    """1 if subnormal results are flushed to zero in this thread, 2 if subnormal operands are, 3 if both."""
    return (1 if probe[0] * probe[1] == 0 else 0) + (2 if probe[2] * probe[3] == 0 else 0)


@compiled
def weighted_sum(
    values: Any, errors: Any, slots: Any, weights: Any, relative: float, absolute: float, n: int,
    s: Any, b: Any,
) -> tuple[float, float, float]:  # fmt: skip
    """s = Σ c_k·b_k and b, the bound of its error; see `program`. Smallest and largest |s|, largest b.

    Not for an empty sum.
    """
    term, weight = values[slots[0]], weights[0]
    for i in range(n):
        s[i] = weight * term[i]
        b[i] = abs(s[i])
    for k in range(1, MAX_TERMS):
        if slots[k] < 0:
            break
        term, weight = values[slots[k]], weights[k]
        size = abs(weight)
        for i in range(n):
            s[i] = fma(weight, term[i], s[i])
            b[i] = fma(size, abs(term[i]), b[i])
    for i in range(n):
        b[i] = fma(b[i], relative, absolute)
    for k in range(MAX_TERMS):
        if slots[k] >= TABLE:
            # Rounded a few times: 2^-40 covers it.
            error, size = errors[slots[k] - TABLE], abs(weights[k]) * (1 + 2.0**-40)
            for i in range(n):
                b[i] = fma(size, error[i], b[i])
    # Nonnegative floats compare like their bits, which vectorises.
    smallest: Any = np.int64(0x7FF0000000000000)
    largest: Any = np.int64(0)
    widest: Any = np.int64(0)
    for i in range(n):
        size_bits = float_to_bits(abs(s[i]))
        smallest, largest = min(smallest, size_bits), max(largest, size_bits)
        widest = max(widest, float_to_bits(b[i]))
    return bits_to_float(smallest), bits_to_float(largest), bits_to_float(widest)


@compiled
def fill(x: Any, n: int, stretch_needed: Any, values: Any, errors: Any, tables: Any, stretch: int) -> None:
    """Basis functions of x[:n] into their slots."""
    point = values[X]
    for i in range(n):
        point[i] = x[i]
    if stretch_needed[ONE]:
        for i in range(n):
            values[ONE, i] = 1.0
    if stretch_needed[X2] or stretch_needed[X3]:
        for i in range(n):
            values[X2, i] = point[i] * point[i]
    if stretch_needed[X3]:
        for i in range(n):
            values[X3, i] = values[X2, i] * point[i]
    if stretch_needed[EXP]:
        exp_tile(point, n, values[EXP])
    if stretch_needed[Q] or stretch_needed[EXPM1]:
        q_tile(point, n, values[Q])
    if stretch_needed[EXPM1]:
        for i in range(n):
            values[EXPM1, i] = point[i] + values[Q, i]
    layout, coefficients, bounds, asymptotes = tables
    for t in range(stretch_needed.size - TABLE):
        if stretch_needed[TABLE + t]:
            side = 2 * t + (1 if stretch == POSITIVE else 0)
            table_tile(
                point, n, layout[side], coefficients, bounds, asymptotes[side], values[TABLE + t], errors[t]
            )


class Chunk(NamedTuple):
    """Inputs and what was computed there.

    Attributes:
        x: inputs as float32, ascending by pattern, shape (n,).
        ys: computed values as float32, a tuple of arrays of shape (n,), of which `outputs` count.
        runs: start, end, cell and stretch of each run of one cell, shape (r, 4).
        patterns: int64, shape (n,), or empty where input i has pattern offset + i.
    """

    x: Any
    ys: Any
    outputs: int
    runs: Any
    patterns: Any
    offset: int


@entry
def score_chunk(
    chunk: Chunk, program: Program, fmts: Any, counts: Counts, left: Left, edges: Any, probe: Any
) -> int:
    """Scores every output of a chunk; returns what `flushes` saw, before or after.

    Args:
        fmts: a row per output; see `decide`.
        counts: rows and histograms per output, shape (outputs, …); added to.
        left: per output, indices that this tier cannot decide, and how many, shape (outputs, 1).
        edges: per output, the first and last input's (index, y, s, b), index -1 where there is none.
    """
    x, ys, outputs, runs, patterns, offset = chunk
    slots, weights, relative, absolute, needed, windows, pivots, tables = program
    seen = flushes(probe)
    values, errors = np.empty((needed.shape[1], TILE)), np.empty((needed.shape[1] - TABLE, TILE))
    s, b = np.empty(TILE), np.empty(TILE)
    scratch = Scratch(
        np.empty(TILE), np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.uint16)
    )
    previous = np.zeros((outputs, 4))
    for r in range(runs.shape[0]):
        cell, stretch = runs[r, 2], runs[r, 3]
        connected = r > 0 and runs[r, 0] == runs[r - 1, 1] and (runs[r - 1, 3] == 2) == (stretch == 2)
        for start in range(runs[r, 0], runs[r, 1], TILE):
            n = min(TILE, runs[r, 1] - start)
            fill(x[start : start + n], n, needed[stretch], values, errors, tables, stretch)
            for j in range(outputs):
                y = ys[j][start : start + n]
                smallest = largest = widest = 0.0
                if slots[stretch, j, 0] < 0:  # the function is 0 here
                    s[:n], b[:n] = 0.0, 0.0
                else:
                    smallest, largest, widest = weighted_sum(
                        values, errors, slots[stretch, j], weights[stretch, j],
                        relative[stretch, j], absolute[stretch, j], n, s, b,
                    )  # fmt: skip
                pivot, side = _pivot(
                    windows[stretch, j], pivots[stretch, j], abs(x[start]), abs(x[start + n - 1])
                )
                score_tile(
                    Tile(y, s, b, n, start, cell, patterns, offset),
                    Extent(smallest, largest, widest, pivot, side),
                    fmts[j],
                    Counts(counts.rows[j], counts.histogram[j]),
                    Left(left.indices[j], left.count[j]),
                    scratch,
                )
                moves = count_moves(y, s, b, n, fmts[j]) if largest > 0 else 0
                last = previous[j]
                if connected or start > runs[r, 0]:
                    moves += moves_against(last[1], last[2], last[3], np.float64(y[0]), s[0], b[0], fmts[j])
                elif edges[j, 0, 0] < 0:
                    _keep(edges[j, 0], start, y, s, b, ZERO)
                counts.rows[j, 2 * cell, MONOTONE] += moves
                _keep(last, start + n - 1, y, s, b, n - 1)
                _keep(edges[j, 1], start + n - 1, y, s, b, n - 1)
    return seen | flushes(probe)


@compiled
def _pivot(windows: Any, pivots: Any, one_end: float, other_end: float) -> tuple[float, int]:
    """What holds for an output at all inputs between two sizes: the pivot and side of `Extent`."""
    nearest, farthest = min(one_end, other_end), max(one_end, other_end)
    pivot: Any = 0.0
    side: Any = np.int64(0)
    for w in range(2):
        if windows[w, 0] <= nearest and farthest < windows[w, 1]:
            pivot, side = pivots[w, 0], np.int64(pivots[w, 1])
    return pivot, side


@compiled
def _keep(edge: Any, index: int, y: Any, s: Any, b: Any, i: int) -> None:
    edge[0], edge[1], edge[2], edge[3] = index, y[i], s[i], b[i]
