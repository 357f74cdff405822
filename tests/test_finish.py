"""What counts become: quantiles against sorted errors and numpy's."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from precision_lab.finish import QUANTILES, _quantiles
from precision_lab.oracle import tally as columns


def histogram_of(errors: np.ndarray) -> np.ndarray:
    """By the edges alone: the first bin whose upper edge is beyond the error."""
    edges = np.array([columns.bin_edge(k) for k in range(columns.BINS - 1)])
    index = np.searchsorted(edges, errors, side="right")
    return np.bincount(index, minlength=columns.BINS).astype(np.int64)


@pytest.mark.parametrize("n", [1, 2, 7, 10, 100, 999, 1000, 1001, 65536])
@pytest.mark.parametrize("spread", [0.5, 3.0, 40.0])
def test_quantiles_are_sorted_errors_rounded_up_to_a_bin(n: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    errors = np.exp2(rng.normal(0, spread, n).clip(-11, 115)).astype(np.float32).astype(np.float64)
    found = _quantiles(histogram_of(errors), float(errors.max()))
    for name in QUANTILES:
        true = np.sort(errors)[math.ceil(Fraction(name) * n) - 1]
        assert true <= found[name] <= true * (1 + 2.0**-5), name


@pytest.mark.parametrize("n", [4, 10, 99, 4096])
def test_quantiles_are_numpys(n: int) -> None:
    """Of errors that are edges of bins, so that a bin's upper edge is the next power of 2^(1/32) or so."""
    errors = np.random.default_rng(n).permutation(np.ldexp(1.0, np.arange(n) % 40 - 5))
    found = _quantiles(histogram_of(errors), float(errors.max()))
    for name in ("0.5", "0.9", "0.99"):
        true = np.quantile(errors, float(name), method="inverted_cdf")
        assert true <= found[name] <= true * (1 + 2.0**-5), name


def test_the_rank_is_the_least_that_reaches_the_share() -> None:
    """Of 1000 errors, 999 are 99.9 %."""
    for n, least in ((1000, 999), (10, 10), (2000, 1998), (2001, 1999)):
        errors = np.full(n, 64.0)
        errors[:least] = 2.0**-3
        assert _quantiles(histogram_of(errors), 64.0)["0.999"] < 0.25
        errors[least - 1] = 64.0
        assert _quantiles(histogram_of(errors), 64.0)["0.999"] == 64.0


def test_a_quantile_beyond_the_histogram_is_the_maximum() -> None:
    """All errors above 2^116 ulps are in one bin, which has no upper edge."""
    errors = np.array([1.0, 2.0**117, 2.0**120, 2.0**130])
    found = _quantiles(histogram_of(errors), 2.0**130)
    assert found["0.5"] == found["0.9"] == 2.0**130
    # Where every error is that large too, and never the bin's edge.
    found = _quantiles(histogram_of(errors[1:]), 2.0**130)
    assert set(found.values()) == {2.0**130}
    assert _quantiles(np.zeros(columns.BINS, np.int64), 0.0) == dict.fromkeys(QUANTILES, 0.0)


def test_a_bin_ends_where_the_next_begins() -> None:
    for index in (0, 1, 31, 32, 1000, columns.BINS - 2):
        edge = np.float32(columns.bin_edge(index))
        below = np.nextafter(edge, np.float32(0))

        def bin_of(value: np.float32) -> int:
            return (int(value.view(np.int32)) >> columns.BIN_SHIFT) - columns.BIN_BASE

        assert (bin_of(below), bin_of(edge)) == (index, index + 1)
