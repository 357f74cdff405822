"""Parameter-free basis functions: every activation is a weighted sum of these.

A formula is written once, as plain arithmetic over a context `m` that supplies
`exp`, `sigmoid`, `softplus`, `erfc`, `atan_over_pi`, `sqrt` and `pi`. The oracle evaluates the
same formula over balls of mpmath numbers and over power series with balls as coefficients, so the
definition says nothing about cancellation: where a formula cancels, its ball gets
wide and the oracle raises its precision. Longer than 300 lines: it is one table, read as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Formula = Callable[[Any, Any], Any]
# Coefficients of 1, x, x^2, x^3 that remain at an infinity, up to terms that vanish.
Asymptote = tuple[Fraction | float, Fraction | float, Fraction | float, Fraction | float]


@dataclass(frozen=True)
class BasisFunction:
    """One real function of x.

    Attributes:
        name: key in `BASIS`.
        text: formula for people.
        formula: the definition over a context.
        derivative: d/dx as (weight, basis name) terms; None where no activation needs it.
        at_minus_infinity, at_plus_infinity: asymptotes; None where it grows faster than x^3.
        approach: the sign of f − asymptote for all |x| ≥ 2, towards −∞ and towards +∞ (0: f is the
            asymptote). None where there is no such sign or no float64 asymptote. For x ≥ 2:
            σ − 1 = −σ(−x) < 0; x·σ − x = −x·σ(−x) < 0, and so for Φ and for GELU's tanh form;
            (x·σ)' − 1 = σ(−x)·(x·σ(x) − 1) > 0, as 2·σ(2) > 1 and x·σ grows; in GELU's tanh form
            x·σ(x) has the further factor u'(x) > 1; (x·Φ)' − 1 = x·φ(x) − Φ(−x) > 0, as Mills' ratio
            Φ(−x)/φ(x) is below 1/x; log(1+eˣ) − x = log(1+e^−x) > 0. For x ≤ −2 likewise with the
            other sign. Mish, with s = σ(x) and r = σ(−x): x·s(1+r)/(1+r²) − x = −2x·r²/(1+r²), and its
            gradient − 1 is that factor times 1 − 2x·s/(1+r²), where 2x·s > 3.5 for x ≥ 2; for x ≤ −2
            the gradient has the sign of (1+r) + 4x·r²/(1+r²) < 2 − 3.4. The arctan gate's gradient
            grows from 0 to 1, its slope being positive. tanh ∓ 1 = ∓2σ(∓2x); log σ(x) = −log(1+e^−x), and
            log σ(x) − x = −log(1+eˣ); products of σ are positive.
        beyond: |x| from which |f − asymptote| < 2^-1060, and < 2^-2000 from twice as far; infinity where
            it shrinks slower.
        at_zero: value and slope at 0, where the value is a rational number: they say on which side of
            the value the function lies next to 0. No slope but 0 has to be exact.
        bend: f''(0)/2, where the slope at 0 is 0. σ(x)·σ(−x) = 1/(2 + eˣ + e^−x) = 1/4 − x²/16 + …
        slope: f' in a closed form without cancellation, where the formula cancels too much for the
            remainders of its Taylor polynomials to be bounded well.
    """

    name: str
    text: str
    formula: Formula
    derivative: tuple[tuple[int, str], ...] | None
    at_minus_infinity: Asymptote | None
    at_plus_infinity: Asymptote | None
    slope: Formula | None = None
    at_zero: tuple[Fraction, float] | None = None
    bend: float = 0.0
    approach: tuple[int | None, int | None] = (None, None)
    beyond: float = 0.0


def _gelu_tanh_argument(m: Any, x: Any) -> Any:
    """2·sqrt(2/pi)·(x + 0.044715 x^3): tanh(u) = 2 sigma(2u) - 1, and this is 2u."""
    return 2 * m.sqrt(2 / m.pi) * (x + m.constant(Fraction(44715, 10**6)) * (x * x * x))


def _gelu_tanh_gradient(m: Any, x: Any) -> Any:
    v = _gelu_tanh_argument(m, x)
    slope = 2 * m.sqrt(2 / m.pi) * (1 + m.constant(Fraction(3 * 44715, 10**6)) * (x * x))
    return m.sigmoid(v) * (1 + x * m.sigmoid(-v) * slope)


def _mish_gate(m: Any, x: Any) -> Any:
    """tanh(log(1 + eˣ)) = (1 − r²)/(1 + r²) with r = σ(−x), and 1 − r = σ(x)."""
    r = m.sigmoid(-x)
    return m.sigmoid(x) * (1 + r) / (1 + r * r)


def _mish_gradient(m: Any, x: Any) -> Any:
    """The gate and x times its slope, dr/dx being −r(1 − r)."""
    r = m.sigmoid(-x)
    square = 1 + r * r
    return _mish_gate(m, x) + x * (4 * r * r * m.sigmoid(x) / square / square)


def _mish_curvature(m: Any, x: Any) -> Any:
    """The slope of the gradient; r² stands before all that changes far right."""
    r, s = m.sigmoid(-x), m.sigmoid(x)
    square = 1 + r * r
    bent = 2 * square + x * ((r - 2 * s) * square + 4 * r * r * s)
    return 4 * r * r * s / square / square / square * bent


def _sigmoid_slope(m: Any, x: Any) -> Any:
    """σ' = σ(x)·σ(−x): two factors without cancellation, where σ·(1 − σ) cancels on the right."""
    return m.sigmoid(x) * m.sigmoid(-x)


def _normal_cdf(m: Any, x: Any) -> Any:
    return m.erfc(-x / m.sqrt(m.constant(2))) / 2


def _normal_density(m: Any, x: Any) -> Any:
    return m.exp(-(x * x) / 2) / m.sqrt(2 * m.pi)


def _arctan_gate(m: Any, x: Any) -> Any:
    return m.atan_over_pi(x) + m.constant(Fraction(1, 2))


# Beyond these, x³·e^−|x|, x³·e^(−x²/2) and x³·e^(−2u) (u the argument of GELU's tanh) are below
# 2^-1060: e^-768 = 2^-1108, e^(-800) = 2^-1154, and 2u(24) > 1023 with slopes below 2^8.
_ZERO: Asymptote = (Fraction(0), Fraction(0), Fraction(0), Fraction(0))
_ONE: Asymptote = (Fraction(1), Fraction(0), Fraction(0), Fraction(0))
_X: Asymptote = (Fraction(0), Fraction(1), Fraction(0), Fraction(0))
_INVERSE_PI = 0.3183098861837907  # 1/pi to double; used for limits at infinity only

BASIS: dict[str, BasisFunction] = {
    basis.name: basis
    for basis in (
        BasisFunction(
            "one",
            "1",
            lambda m, x: m.constant(1),
            (),
            _ONE,
            _ONE,
            approach=(0, 0),
            beyond=0.0,
            at_zero=(Fraction(1), 0.0),
        ),
        BasisFunction(
            "x",
            "x",
            lambda m, x: x,
            ((1, "one"),),
            _X,
            _X,
            approach=(0, 0),
            beyond=0.0,
            at_zero=(Fraction(0), 1.0),
        ),
        BasisFunction(
            "x^2",
            "x²",
            lambda m, x: x * x,
            ((2, "x"),),
            (Fraction(0), Fraction(0), Fraction(1), Fraction(0)),
            (Fraction(0), Fraction(0), Fraction(1), Fraction(0)),
            approach=(0, 0),
            beyond=0.0,
            at_zero=(Fraction(0), 0.0),
            bend=1.0,
        ),
        BasisFunction(
            "x^3",
            "x³",
            lambda m, x: x * x * x,
            ((3, "x^2"),),
            (Fraction(0), Fraction(0), Fraction(0), Fraction(1)),
            (Fraction(0), Fraction(0), Fraction(0), Fraction(1)),
            approach=(0, 0),
            beyond=0.0,
            at_zero=(Fraction(0), 0.0),
        ),
        BasisFunction(
            "exp",
            "eˣ",
            lambda m, x: m.exp(x),
            ((1, "exp"),),
            _ZERO,
            None,
            approach=(1, None),
            beyond=768.0,
            at_zero=(Fraction(1), 1.0),
        ),
        BasisFunction(
            "expm1",
            "eˣ−1",
            lambda m, x: m.exp(x) - 1,
            ((1, "exp"),),
            (Fraction(-1), Fraction(0), Fraction(0), Fraction(0)),
            None,
            approach=(1, None),
            beyond=768.0,
            at_zero=(Fraction(0), 1.0),
        ),
        BasisFunction(
            "expm1_minus_x",
            "eˣ−1−x",
            lambda m, x: m.exp(x) - 1 - x,
            ((1, "expm1"),),
            (Fraction(-1), Fraction(-1), Fraction(0), Fraction(0)),
            None,
            approach=(1, None),
            beyond=768.0,
            at_zero=(Fraction(0), 0.0),
            bend=0.5,
        ),
        BasisFunction(
            "sigmoid",
            "σ(x)",
            lambda m, x: m.sigmoid(x),
            ((1, "sigmoid'"),),
            _ZERO,
            _ONE,
            approach=(1, -1),
            beyond=768.0,
            at_zero=(Fraction(1, 2), 0.25),
        ),
        BasisFunction(
            "sigmoid'",
            "σ(x)·σ(−x)",
            _sigmoid_slope,
            None,
            _ZERO,
            _ZERO,
            approach=(1, 1),
            beyond=768.0,
            at_zero=(Fraction(1, 4), 0.0),
            bend=-0.0625,
        ),
        BasisFunction(
            "sigmoid_of_minus_x",
            "σ(−x)",
            lambda m, x: m.sigmoid(-x),
            None,
            _ONE,
            _ZERO,
            approach=(-1, 1),
            beyond=768.0,
            at_zero=(Fraction(1, 2), -0.25),
        ),
        # 2σ(2x) − 1 cancels next to 0, where its polynomial does not: Arb's balls of the coefficients are of
        # any precision, and the constant one is exactly 0. mpmath raises its precision, as for eˣ − 1.
        BasisFunction(
            "tanh",
            "tanh(x)",
            lambda m, x: 2 * m.sigmoid(2 * x) - 1,
            ((1, "tanh'"),),
            (Fraction(-1), Fraction(0), Fraction(0), Fraction(0)),
            _ONE,
            approach=(1, -1),
            beyond=384.0,
            at_zero=(Fraction(0), 1.0),
        ),
        BasisFunction(
            "tanh'",
            "4·σ(2x)·σ(−2x)",
            lambda m, x: 4 * _sigmoid_slope(m, 2 * x),
            None,
            _ZERO,
            _ZERO,
            approach=(1, 1),
            beyond=384.0,
            at_zero=(Fraction(1), 0.0),
            bend=-1.0,
        ),
        BasisFunction(
            "softplus",
            "log(1+eˣ)",
            lambda m, x: m.softplus(x),
            ((1, "sigmoid"),),
            _ZERO,
            _X,
            approach=(1, 1),
            beyond=768.0,
        ),
        BasisFunction(
            "logsigmoid",
            "log σ(x)",
            lambda m, x: -m.softplus(-x),
            ((1, "sigmoid_of_minus_x"),),
            _X,
            _ZERO,
            approach=(-1, -1),
            beyond=768.0,
        ),
        BasisFunction(
            "silu",
            "x·σ(x)",
            lambda m, x: x * m.sigmoid(x),
            ((1, "silu'"),),
            _ZERO,
            _X,
            approach=(-1, -1),
            beyond=768.0,
            at_zero=(Fraction(0), 0.5),
        ),
        BasisFunction(
            "silu'",
            "σ(x)·(1+x·σ(−x))",
            lambda m, x: m.sigmoid(x) * (1 + x * m.sigmoid(-x)),
            None,
            _ZERO,
            _ONE,
            approach=(-1, 1),
            beyond=768.0,
            at_zero=(Fraction(1, 2), 0.5),
        ),
        BasisFunction(
            "mish",
            "x·tanh(log(1+eˣ))",
            lambda m, x: x * _mish_gate(m, x),
            ((1, "mish'"),),
            _ZERO,
            _X,
            approach=(-1, -1),
            beyond=768.0,
            at_zero=(Fraction(0), 0.6),
        ),
        BasisFunction(
            "mish'",
            "d/dx of x·tanh(log(1+eˣ))",
            _mish_gradient,
            None,
            _ZERO,
            _ONE,
            approach=(-1, 1),
            beyond=768.0,
            slope=_mish_curvature,
            at_zero=(Fraction(3, 5), 0.64),
        ),
        BasisFunction(
            "gelu",
            "x·Φ(x)",
            lambda m, x: x * _normal_cdf(m, x),
            ((1, "gelu'"),),
            _ZERO,
            _X,
            approach=(-1, -1),
            beyond=40.0,
            at_zero=(Fraction(0), 0.5),
        ),
        BasisFunction(
            "gelu'",
            "Φ(x)+x·φ(x)",
            lambda m, x: _normal_cdf(m, x) + x * _normal_density(m, x),
            None,
            _ZERO,
            _ONE,
            approach=(-1, 1),
            beyond=40.0,
            at_zero=(Fraction(1, 2), 0.797884),
        ),
        BasisFunction(
            "gelu_tanh",
            "x·σ(2√(2/π)(x+0.044715x³))",
            lambda m, x: x * m.sigmoid(_gelu_tanh_argument(m, x)),
            ((1, "gelu_tanh'"),),
            _ZERO,
            _X,
            approach=(-1, -1),
            beyond=24.0,
            at_zero=(Fraction(0), 0.5),
        ),
        BasisFunction(
            "gelu_tanh'",
            "d/dx of gelu_tanh",
            _gelu_tanh_gradient,
            None,
            _ZERO,
            _ONE,
            approach=(-1, 1),
            beyond=24.0,
            at_zero=(Fraction(1, 2), 0.797884),
        ),
        BasisFunction(
            "atlu",
            "x·(arctan(x)/π+½)",
            lambda m, x: x * _arctan_gate(m, x),
            ((1, "atlu'"),),
            (-_INVERSE_PI, Fraction(0), Fraction(0), Fraction(0)),
            (-_INVERSE_PI, Fraction(1), Fraction(0), Fraction(0)),
            at_zero=(Fraction(0), 0.5),
        ),
        BasisFunction(
            "atlu'",
            "arctan(x)/π+½+x/(π(1+x²))",
            lambda m, x: _arctan_gate(m, x) + x / (m.pi * (1 + x * x)),
            None,
            _ZERO,
            _ONE,
            approach=(1, -1),
            beyond=math.inf,
            slope=lambda m, x: 2 / (1 + x * x) / (1 + x * x) / m.pi,
            at_zero=(Fraction(1, 2), 0.63662),
        ),
    )
}
