"""Formulas over Arb's power series: Taylor coefficients of a basis function, as balls.

Arb (through python-flint) is what the compiler of piecewise polynomials asks for values
and for remainders. A series x₀ + t with a ball x₀ gives coefficients that hold for every
point of the ball, which is Lagrange's remainder.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from flint import arb, arb_series, fmpq


def to_arb(value: int | float | Fraction) -> arb:
    """An exact number, or a ball around one that has no finite binary expansion."""
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    return arb(value)


class ArbSeries:
    """A power series that mixes with ints and balls in formulas."""

    __slots__ = ("series",)

    def __init__(self, series: Any) -> None:
        self.series = series if isinstance(series, arb_series) else arb_series([series])

    @staticmethod
    def _lift(other: Any) -> ArbSeries:
        return other if isinstance(other, ArbSeries) else ArbSeries(arb(other))

    def __neg__(self) -> ArbSeries:
        return ArbSeries(-self.series)

    def __add__(self, other: Any) -> ArbSeries:
        return ArbSeries(self.series + self._lift(other).series)

    __radd__ = __add__

    def __sub__(self, other: Any) -> ArbSeries:
        return ArbSeries(self.series - self._lift(other).series)

    def __rsub__(self, other: Any) -> ArbSeries:
        return self._lift(other) - self

    def __mul__(self, other: Any) -> ArbSeries:
        return ArbSeries(self.series * self._lift(other).series)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> ArbSeries:
        return ArbSeries(self.series / self._lift(other).series)

    def __rtruediv__(self, other: Any) -> ArbSeries:
        return self._lift(other) / self

    def coefficient(self, k: int) -> arb:
        return self.series[k]


class ArbSeriesContext:
    """Supplies the operations that formulas in `functions/basis.py` are written with."""

    def __init__(self) -> None:
        self.pi = ArbSeries(arb.pi())

    def constant(self, value: int | float | Fraction) -> ArbSeries:
        return ArbSeries(to_arb(value))

    def sqrt(self, x: ArbSeries) -> ArbSeries:
        return ArbSeries(x.series.sqrt())

    def exp(self, x: ArbSeries) -> ArbSeries:
        return ArbSeries(x.series.exp())

    def sigmoid(self, x: ArbSeries) -> ArbSeries:
        if x.coefficient(0) < 0:  # e^x/(1 + e^x), which neither overflows nor cancels
            t = self.exp(x)
            return t / (1 + t)
        return 1 / (1 + self.exp(-x))

    def softplus(self, x: ArbSeries) -> ArbSeries:
        """log(1 + e^x): its value at the centre and the integral of σ(x)·x', which never cancels."""
        centre = x.coefficient(0)
        value = centre.exp().log1p() if centre < 0 else centre + (-centre).exp().log1p()
        slope = self.sigmoid(x) * ArbSeries(x.series.derivative())
        return ArbSeries(slope.series.integral()) + value

    def erfc(self, x: ArbSeries) -> ArbSeries:
        """Likewise: Arb's erfc at the centre and the integral of −2/√π·e^(−x²)·x'."""
        slope = self.exp(-(x * x)) * ArbSeries(x.series.derivative()) * (-2 / arb.pi().sqrt())
        return ArbSeries(slope.series.integral()) + x.coefficient(0).erfc()

    def atan_over_pi(self, x: ArbSeries) -> ArbSeries:
        slope = ArbSeries(x.series.derivative()) / (1 + x * x)
        return (ArbSeries(slope.series.integral()) + x.coefficient(0).atan()) / self.pi
