"""Values with two derivatives over mpmath numbers: the chain rule, written out for each function.

Shares nothing with `precision_lab`: another library, another way to derivatives, and branches that are
Python's own. Precision is the context's; whoever asks raises it until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath

# Beyond, e^−t counts by its sign and order alone: it is below 2^-2885, and a format's smallest number, over
# its largest, is 2^-2098.
CUT = 2000


def context(bits: int) -> Any:
    """An mpmath context of its own; the global one is nobody's."""
    found = mpmath.MPContext()
    found.prec = bits
    return found


class Jet:
    """c[0] + c[1]·h + c[2]·h²/2 + …, as many as were asked for."""

    __slots__ = ("c", "m")

    def __init__(self, m: Any, c: Sequence[Any]) -> None:
        self.m, self.c = m, tuple(c)

    @property
    def v(self) -> Any:
        return self.c[0]

    def _lift(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return other
        if isinstance(other, Fraction):
            other = self.m.mpf(other.numerator) / other.denominator
        return Jet(self.m, (self.m.mpf(other), *(self.m.zero,) * (len(self.c) - 1)))

    def __add__(self, other: Any) -> Jet:
        return Jet(self.m, [a + b for a, b in zip(self.c, self._lift(other).c, strict=True)])

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(self.m, [-a for a in self.c])

    def __sub__(self, other: Any) -> Jet:
        return Jet(self.m, [a - b for a, b in zip(self.c, self._lift(other).c, strict=True)])

    def __rsub__(self, other: Any) -> Jet:
        return self._lift(other) - self

    def __mul__(self, other: Any) -> Jet:
        if isinstance(other, int):
            return Jet(self.m, [a * other for a in self.c])
        a, b = self.c, self._lift(other).c
        found = [a[0] * b[0]]
        if len(a) > 1:
            found.append(a[0] * b[1] + a[1] * b[0])
        if len(a) > 2:
            found.append(a[0] * b[2] + 2 * a[1] * b[1] + a[2] * b[0])
        return Jet(self.m, found)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Jet:
        if isinstance(other, int):
            return Jet(self.m, [a / other for a in self.c])
        a, b = self.c, self._lift(other).c
        found = [a[0] / b[0]]
        if len(a) > 1:
            found.append((a[1] - found[0] * b[1]) / b[0])
        if len(a) > 2:
            found.append((a[2] - found[0] * b[2] - 2 * found[1] * b[1]) / b[0])
        return Jet(self.m, found)

    def __rtruediv__(self, other: Any) -> Jet:
        return self._lift(other) / self

    def of(self, *slopes: Any) -> Jet:
        """f(self), with f, f′ and f″ at its value, as functions without arguments or as numbers."""
        u = self.c
        f = [s() if callable(s) else s for s in slopes[: len(u)]]
        found = [f[0]]
        if len(u) > 1:
            found.append(f[1] * u[1])
        if len(u) > 2:
            found.append(f[2] * u[1] * u[1] + f[1] * u[2])
        return Jet(self.m, found)


def fading(m: Any, t: Any) -> Any:
    """e^−t for t ≥ 0; beyond `CUT` another positive number, as small for every format, that falls too."""
    return m.exp(-t) if t <= CUT else m.exp(-(CUT + m.log(t / CUT)))


def growing(m: Any, u: Any) -> Any:
    """eᵘ, with `fading` far left, and 2^2^20 far right, beyond which every format has overflowed."""
    if u <= 0:
        return fading(m, -u)
    return m.exp(u) if u < 4 * CUT else m.exp(4 * CUT)


def exp(u: Jet) -> Jet:
    value = growing(u.m, u.v)
    return u.of(value, value, value)


def expm1(u: Jet) -> Jet:
    value = growing(u.m, u.v)
    return u.of(u.m.expm1(u.v) if abs(u.v) < 1 else value - 1, value, value)


def log(u: Jet) -> Jet:
    return u.of(u.m.log(u.v), 1 / u.v, -1 / u.v**2)


def log1p(u: Jet) -> Jet:
    return u.of(u.m.log1p(u.v), 1 / (1 + u.v), -1 / (1 + u.v) ** 2)


def sqrt(u: Jet) -> Jet:
    root = u.m.sqrt(u.v)
    return u.of(root, lambda: 1 / (2 * root), lambda: -1 / (4 * root * u.v))


def sin(u: Jet) -> Jet:
    s, c = u.m.sin(u.v), u.m.cos(u.v)
    return u.of(s, c, -s)


def cos(u: Jet) -> Jet:
    s, c = u.m.sin(u.v), u.m.cos(u.v)
    return u.of(c, -s, -c)


def sigmoid(u: Jet) -> Jet:
    """1/(1 + e⁻ᵘ), or e^u/(1 + e^u): only exponentials of negative numbers."""
    e = fading(u.m, abs(u.v))
    value = 1 / (1 + e) if u.v > 0 else e / (1 + e)
    slope = e / (1 + e) ** 2
    bend = slope * (1 - e) / (1 + e)
    return u.of(value, slope, -bend if u.v > 0 else bend)


def tanh(u: Jet) -> Jet:
    e = fading(u.m, 2 * abs(u.v))
    size = (1 - e) / (1 + e) if abs(u.v) > 1 else abs(u.m.tanh(u.v))
    value = size if u.v > 0 else -size
    slope = 4 * e / (1 + e) ** 2
    return u.of(value, slope, -2 * value * slope)


def softplus(u: Jet) -> Jet:
    e = fading(u.m, abs(u.v))
    slope = sigmoid(Jet(u.m, (u.v, u.m.one)))
    return u.of((u.v if u.v > 0 else 0) + u.m.log1p(e), slope.c[0], slope.c[1])


def _gaussian(m: Any, u: Any) -> Any:
    """2/√π·e^(−u²)."""
    return 2 / m.sqrt(m.pi) * fading(m, u * u)


def erf(u: Jet) -> Jet:
    m, size = u.m, abs(u.v)
    value = m.erf(u.v) if size < 1 else (1 if u.v > 0 else -1) * (1 - _beyond(m, size))
    slope = _gaussian(m, u.v)
    return u.of(value, slope, -2 * u.v * slope)


def erfc(u: Jet) -> Jet:
    m = u.m
    value = 1 - m.erf(u.v) if abs(u.v) < 1 else _beyond(m, u.v) if u.v > 0 else 2 - _beyond(m, -u.v)
    slope = -_gaussian(m, u.v)
    return u.of(value, slope, -2 * u.v * slope)


def _beyond(m: Any, t: Any) -> Any:
    """erfc(t) for t ≥ 1; far out the first term of its asymptotic series, of which only the sign is seen."""
    return m.erfc(t) if t * t <= CUT else fading(m, t * t) / (t * m.sqrt(m.pi))


def atan(u: Jet) -> Jet:
    slope = 1 / (1 + u.v**2)
    return u.of(u.m.atan(u.v), slope, -2 * u.v * slope**2)


def power(u: Jet, n: int) -> Jet:
    m = u.m
    return u.of(u.v**n, n * u.v ** (n - 1), n * (n - 1) * u.v ** (n - 2) if n > 1 else m.zero)
