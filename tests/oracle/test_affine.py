"""a·x + b in float64's arithmetic against rational numbers, ties and what under- and overflows among it."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from precision_lab.formats import FORMATS
from precision_lab.oracle.affine import affine

COEFFICIENTS = [
    (Fraction(1, 3), Fraction(1, 2)), (Fraction(1, 6), Fraction(1, 2)), (Fraction(0), Fraction(1, 3)),
    (Fraction(-7, 5), Fraction(0)), (Fraction(1), Fraction(-1, 3)), (Fraction(10737418, 2**30), Fraction(1)),
    (Fraction(1, 2**60), Fraction(2**60)), (Fraction(10**6, 999983), Fraction(-17, 2**20)),
    (Fraction(1, 3 * 2**100), Fraction(5, 7)), (Fraction(2**200), Fraction(1, 3)),
]  # fmt: skip


def points(fmt: str, seed: int) -> np.ndarray:
    """Of every size, next to the roots of the functions above, and what makes ties of (2x + 3)/6."""
    generator = random.Random(seed)
    found = [s * m * 2.0**k for s in (1, -1) for k in range(-126, 127, 3) for m in (1.0, 1.5, 1.9921875)]
    found += [generator.uniform(-4, 4) for _ in range(3000)]
    found += [float(-b / a) for a, b in COEFFICIENTS if a]
    found += [3 * n * 2.0**-27 for n in range(-50, 50)]
    x = FORMATS[fmt].round(np.array(found))
    return np.unique(x[np.isfinite(x) & (x != 0)])


@pytest.mark.parametrize(("a", "b"), COEFFICIENTS, ids=str)
@pytest.mark.parametrize("fmt", ["bf16", "fp16", "fp32"])
def test_the_value_is_enclosed_and_exact_where_float64_holds_it(fmt: str, a: Fraction, b: Fraction) -> None:
    x = points(fmt, 3)
    high, low, radius = affine(a, b, x)
    usable = np.isfinite(radius)
    assert usable.mean() > (0.0 if a == 2**200 or a.denominator == 3 * 2**100 else 0.9)
    for point, h, s, r in zip(*(v[usable].tolist() for v in (x, high, low, radius)), strict=True):
        exact = a * Fraction(point) + b
        assert abs(exact - Fraction(h) - Fraction(s)) <= Fraction(r), (point, h, s, r)
        assert Fraction(h) != exact or s == r == 0
        assert abs(exact - Fraction(h)) <= abs(exact) * Fraction(2) ** -52  # high is next to it


def test_numbers_that_float64_does_not_hold_are_left_to_others() -> None:
    x = np.array([1.0, 2.0**-1000, 2.0**1000, 3.0])
    for a, b in (
        (Fraction(2**60 + 1), Fraction(0)),
        (Fraction(1, 3**40), Fraction(0)),
        (Fraction(1), Fraction(10**400)),
    ):
        assert np.isinf(affine(a, b, x)[2]).all()
    assert np.isinf(affine(Fraction(1, 3), Fraction(1), x)[2]).tolist() == [False, True, True, False]
    assert np.isinf(
        affine(Fraction(2**53 - 1), Fraction(0), np.array([3.0]))[2]
    ).all()  # the product is longer
