"""Roots and edges of functions: they choose inputs and regions, and no error rests on them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from precision_lab.functions import Activation
from precision_lab.functions.basis import BASIS
from precision_lab.oracle.roots import edges, roots


def roots_of(function: Activation, output: str, params: Mapping[str, float]) -> tuple[float, ...]:
    """Nonzero real roots of an output with a change of sign, ascending, as nearest float64 numbers.

    Of sums of known basis functions scanned on 2^-24 ≤ |x| ≤ 2^12 with 16 points per binade, in plain mpmath
    numbers; of other formulas isolated there with Arb (`roots`).
    """
    values = function.check_params(params)
    if not function.has_terms(output):
        return roots(function.bound_expression(output, values)).roots
    return _roots(function, output, tuple(sorted(values.items())))


def edges_of(function: Activation, params: Mapping[str, float]) -> tuple[float, ...]:
    """Where conditions of the formula change, other than 0, ascending, as nearest float64 numbers."""
    if function.sides is not None:
        return ()
    return edges(function.bound_expression("forward", function.check_params(params)))


class PlainContext:
    """Context of plain mpmath numbers: enough to find roots, never to certify a value."""

    def __init__(self, precision: int) -> None:
        import mpmath  # nothing but roots needs it: a definition alone loads nothing heavy

        self.mp = mpmath.MPContext()
        self.mp.prec = precision
        self.pi = +self.mp.pi
        for name in ("exp", "sqrt", "erfc"):
            setattr(self, name, getattr(self.mp, name))

    def constant(self, value: int | Fraction) -> Any:
        fraction = Fraction(value)
        return self.mp.mpf(fraction.numerator) / fraction.denominator

    def sigmoid(self, x: Any) -> Any:
        return 1 / (1 + self.mp.exp(-x))

    def softplus(self, x: Any) -> Any:
        return self.mp.log1p(self.mp.exp(x))

    def atan_over_pi(self, x: Any) -> Any:
        return self.mp.atan(x) / self.mp.pi


@lru_cache(maxsize=512)
def _roots(function: Activation, output: str, items: tuple[tuple[str, float], ...]) -> tuple[float, ...]:
    params = dict(items)
    m = PlainContext(160)

    def value(x: Any) -> Any:
        terms = function.terms(output, "positive" if x > 0 else "negative")
        return sum(
            (m.constant(t.coefficient.at(params)) * BASIS[t.basis].formula(m, x) for t in terms),
            m.constant(0),
        )

    found: list[float] = []
    for sign in (-1, 1):
        grid = [sign * m.mp.mpf(2) ** (m.mp.mpf(k) / 16) for k in range(-24 * 16, 12 * 16 + 1)]
        values = [value(x) for x in grid]
        for i in range(len(grid) - 1):
            # A zero at a grid point is a root only if the function changes sign across it.
            if values[i] * values[i + 1] < 0:
                found.append(float(_bisect(value, grid[i], grid[i + 1], values[i])))
            elif i and values[i] == 0 and values[i - 1] * values[i + 1] < 0:
                found.append(float(grid[i]))
    return tuple(sorted(found))


def _bisect(value: Any, lo: Any, hi: Any, at_lo: Any) -> Any:
    """Root of `value` between lo and hi to 80 bits of the interval."""
    for _ in range(80):
        middle = (lo + hi) / 2
        at_middle = value(middle)
        if at_middle * at_lo > 0:
            lo = middle
        else:
            hi = middle
    return hi
