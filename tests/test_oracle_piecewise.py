"""Compiled polynomials against Arb's balls, and against mpmath: every piece, both tiers, and their cache."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from basis_witness import basis_inputs, containment

from precision_lab.oracle.pieces import Packed, enclose, pack, table_tile
from precision_lab.oracle.piecewise import CENTRAL, Table, table

NAMES = (
    "sigmoid", "softplus", "silu", "silu'", "gelu", "gelu'", "gelu_tanh", "gelu_tanh'", "atlu", "atlu'",
)  # fmt: skip
SIDES = (-1, 1)
# Roots of derivatives, where a bound that looked relative would be wrong; softplus and the rest get them too.
ROOTS = (-1.2784645427610738, -0.7517916243494656, -0.7524614)
# What `second` says a nudge stands for at most.
NUDGED = 2.0**-1000
FP32_SMALLEST, FP32_BEYOND = 2.0**-149, 2.0**128

every_basis = pytest.mark.parametrize("name", NAMES)


# -- inputs -------------------------------------------------------------------------------------


def neighbours(points: np.ndarray) -> np.ndarray:
    """The points, their float64 neighbours, and their float32 ones where they are float32 numbers."""
    steps = np.array([-2, -1, 0, 1, 2])
    double = (points[:, None] + steps * np.spacing(points)[:, None]).ravel()
    narrow = points[(points >= FP32_SMALLEST) & (points < FP32_BEYOND)].astype(np.float32)
    single = np.concatenate([np.nextafter(narrow, np.float32(0)), np.nextafter(narrow, np.float32(np.inf))])
    return np.concatenate([double, single.astype(np.float64)])


def edges_and_centres(found: Table) -> tuple[np.ndarray, np.ndarray]:
    """All edges and centres of the pieces of one side."""
    edges, centres = [np.array([2.0**CENTRAL])], []
    for e, split in enumerate(found.layout[3::2].tolist(), start=CENTRAL):
        fraction = np.arange(1 << split) / (1 << split)
        edges.append(np.ldexp(1 + fraction, e))
        centres.append(np.ldexp(1 + fraction + 0.5 / (1 << split), e))
    return np.concatenate(edges), np.concatenate(centres)


@functools.lru_cache(maxsize=64)
def attacks(name: str, side: int, double: bool, n: int, seed: int = 1) -> np.ndarray:
    """x of one side: edges and centres of pieces with neighbours, roots, both ends of the table, random."""
    rng = np.random.default_rng([seed, side + 1, double])
    found = table(name, side, double)
    edges, centres = edges_and_centres(found)
    if edges.size > n // 20:
        edges, centres = rng.choice(edges, n // 20, False), rng.choice(centres, n // 20, False)
    smallest = 2.0**-1074 if double else FP32_SMALLEST
    last = min(int(found.layout[1]), 1023)
    binades = np.arange(int(math.log2(smallest)), last + 1)
    ends = [2.0**CENTRAL, 2.0**last, 2.0 ** (last - 1), 1.0]
    if math.isfinite(found.beyond[0]):
        ends.append(float(found.beyond[0]))
    size = np.concatenate(
        [
            neighbours(np.array(ends)),
            neighbours(np.abs([r for r in ROOTS if r * side > 0])),
            neighbours(edges),
            neighbours(centres),
            neighbours(np.ldexp(1.0, rng.choice(binades, 12))),
            smallest * rng.integers(1, 1 << 20, 40),
            np.ldexp(rng.uniform(1, 2, n // 8), rng.choice(binades, n // 8)),
            np.ldexp(rng.uniform(1, 2, n // 4), rng.integers(CENTRAL - 3, last, n // 4)),
            rng.uniform(0, min(2.0**last, 24), n // 4),
            np.abs([x for x in basis_inputs(name, n // 2, seed) if x * side > 0]),
        ]
    )
    top = math.inf if double else FP32_BEYOND
    return side * np.unique(size[(size >= smallest) & (size < top)])


# -- the two tiers ------------------------------------------------------------------------------


def first_tier(packed: Packed, x: np.ndarray, k: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """value and bound of the k-th packed function, tile by tile."""
    value, bound = np.empty(x.size), np.empty(x.size)
    cells = np.frexp(np.abs(x))[1] * 2 + (x > 0)
    for cell in np.unique(cells):
        tile = np.flatnonzero(cells == cell)
        tile = tile[np.argsort(np.abs(x[tile]))]
        side = 2 * k + int(x[tile[0]] > 0)
        v, b = np.empty(tile.size), np.empty(tile.size)
        table_tile(
            x[tile], tile.size, packed.layout[side], packed.coefficients, packed.bounds,
            packed.asymptotes[side], v, b,
        )  # fmt: skip
        value[tile], bound[tile] = v, b
    return value, bound


def first_ratio(name: str, packed: Packed, x: np.ndarray) -> tuple[float, float]:
    value, bound = first_tier(packed, x)
    return containment(name, x, value, np.zeros(x.size), bound)


def second_ratio(name: str, x: np.ndarray) -> tuple[float, float]:
    high, low, radius, nudge = enclose(name, x)
    plain = nudge == 0
    return containment(name, x[plain], high[plain], low[plain], radius[plain])


# -- claims against Arb ---------------------------------------------------------------------------


@every_basis
def test_first_tier_holds_f_against_arb(name: str) -> None:
    packed = pack((name,))
    for side in SIDES:
        ratio, where = first_ratio(name, packed, attacks(name, side, False, 2000))
        assert ratio <= 1, f"{name}: error {ratio} of the bound at x={where!r} ({where.hex()})"


@every_basis
def test_second_tier_holds_f_against_arb(name: str) -> None:
    for side in SIDES:
        ratio, where = second_ratio(name, attacks(name, side, True, 2000))
        assert ratio <= 1, f"{name}: error {ratio} of the radius at x={where!r} ({where.hex()})"
