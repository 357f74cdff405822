"""Blocks of numbers that tell quantisers apart: every number, zeros, subnormals, ties, NaN, infinities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from precision_lab.formats import FloatFormat

BLOCKS = 64  # that are drawn
Array = np.ndarray


def _every(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    """Finite numbers of the format by size, neighbours in one block, with signs in turn."""
    if x.bits == 16:
        values = np.abs(x.decode(np.arange(2**15, dtype=np.uint64)).astype(np.float64))
    else:
        values = np.abs(x.decode(rng.integers(0, 2**31, 2**15).astype(np.uint64)).astype(np.float64))
    values = np.sort(values[np.isfinite(values)])
    values = np.append(values, np.repeat(values[-1], -values.size % size))
    return values.reshape(-1, size) * np.where(np.arange(size) % 2, -1.0, 1.0)


def _drawn(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    """Normally distributed, of standard deviations from 2^-10 to 2^10."""
    return rng.standard_normal((BLOCKS, size)) * 2.0 ** rng.integers(
        -10, 5 if x.name == "fp16" else 10, (BLOCKS, 1)
    )


def _zeros(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    return np.where(np.arange(2 * size).reshape(2, size) < size, 0.0, -0.0)


def _tiny(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    """One smallest subnormal number among zeros."""
    found = np.zeros((1, size))
    found[0, size // 2] = x.min_subnormal
    return found


def _subnormal(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    return rng.integers(-8, 9, (4, size)) * x.min_subnormal


def _ties(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    """The largest is `top` times a power of two, for exact scales; the others are midpoints of codes."""
    steps = np.unique(np.abs(rng.integers(1, 256, 4 * size)))
    middles = np.concatenate([(2 * steps + 1) / 2.0**k for k in range(1, 12)])
    middles = rng.permutation(middles[middles < top])
    rows = []
    fitting = [k for k in range(8) if top * 2.0 ** (k - 4) <= x.max_finite]
    for k in fitting:
        row = np.resize(np.roll(middles, 37 * k), size) * np.where(np.arange(size) % 2, -1.0, 1.0)
        row[0] = top
        rows.append(row * 2.0 ** (k - 4))
    return np.array(rows)


def _largest(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    """With the largest finite number of the format."""
    found = rng.standard_normal((2, size)) * x.max_finite / 8
    found[0, 0], found[1, 1] = x.max_finite, -x.max_finite
    return np.clip(found, -x.max_finite, x.max_finite)


def _nan(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    found = rng.standard_normal((2, size))
    found[:, size // 2] = math.nan
    return found


def _infinite(x: FloatFormat, size: int, top: float, rng: Any) -> Array:
    found = rng.standard_normal((2, size))
    found[0, size // 2], found[1, size // 2] = math.inf, -math.inf
    return found


CASES: dict[str, Callable[[FloatFormat, int, float, Any], Array]] = {
    "every": _every, "drawn": _drawn, "zeros": _zeros, "tiny": _tiny, "subnormal": _subnormal, "ties": _ties,
    "largest": _largest, "nan": _nan, "infinite": _infinite,
}  # fmt: skip
FINITE = tuple(name for name in CASES if name not in ("nan", "infinite"))
