"""Basis functions in Arb, and how far an enclosure's middle is from them in units of its radius."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from arb_witness import arithmetic, to_arb
from flint import arb, fmpq

# What Context64 and ContextDD evaluate; the others need mpmath.
CONTEXT_BASES = (
    "one",
    "x",
    "x^2",
    "x^3",
    "exp",
    "expm1",
    "expm1_minus_x",
    "sigmoid",
    "sigmoid'",
    "sigmoid_of_minus_x",
    "tanh",
    "tanh'",
    "silu",
    "silu'",
    "mish",
    "mish'",
    "gelu_tanh",
    "gelu_tanh'",
)
MPMATH_BASES = ("softplus", "logsigmoid", "gelu", "gelu'", "atlu", "atlu'")


def _sigmoid(x: arb) -> arb:
    return x.exp() / (1 + x.exp()) if x < 0 else 1 / (1 + (-x).exp())


def _gelu_tanh(x: arb) -> tuple[arb, arb]:
    """Twice the argument of GELU's tanh, and its slope."""
    c, root = arb(fmpq(44715, 10**6)), 2 * (2 / arb.pi()).sqrt()
    return root * (x + c * x * x * x), root * (1 + 3 * c * x * x)


def _mish_gate(x: arb) -> tuple[arb, arb]:
    """tanh(log(1 + e^x)), its tail written for the side x is on, and its slope: sech² times σ."""
    if x < 0:
        n = x.exp() * (x.exp() + 2)
        gate = n / (n + 2)
    else:
        e = (-x).exp()
        gate = (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
    return gate, 1 / _softplus(x).cosh() ** 2 * _sigmoid(x)


def _cdf(x: arb) -> arb:
    return (-x / arb(2).sqrt()).erfc() / 2


def _softplus(x: arb) -> arb:
    return x.exp().log1p() if x < 0 else x + (-x).exp().log1p()


def _gelu_tanh_slope(x: arb) -> arb:
    v, slope = _gelu_tanh(x)
    return _sigmoid(v) + x * _sigmoid(v) * _sigmoid(-v) * slope


BASES: dict[str, Callable[[arb], arb]] = {
    "one": lambda x: arb(1),
    "x": lambda x: x,
    "x^2": lambda x: x * x,
    "x^3": lambda x: x * x * x,
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "expm1_minus_x": lambda x: x.expm1() - x,
    "sigmoid": _sigmoid,
    "sigmoid'": lambda x: _sigmoid(x) * _sigmoid(-x),
    "sigmoid_of_minus_x": lambda x: _sigmoid(-x),
    "tanh": lambda x: x.tanh(),
    "tanh'": lambda x: 1 / x.cosh() ** 2,
    "softplus": _softplus,
    "logsigmoid": lambda x: -_softplus(-x),
    "silu": lambda x: x * _sigmoid(x),
    "silu'": lambda x: _sigmoid(x) + x * _sigmoid(x) * _sigmoid(-x),
    "mish": lambda x: x * _mish_gate(x)[0],
    "mish'": lambda x: _mish_gate(x)[0] + x * _mish_gate(x)[1],
    "gelu": lambda x: x * _cdf(x),
    "gelu'": lambda x: _cdf(x) + x * (-x * x / 2).exp() / (2 * arb.pi()).sqrt(),
    "gelu_tanh": lambda x: x * _sigmoid(_gelu_tanh(x)[0]),
    "gelu_tanh'": _gelu_tanh_slope,
    "atlu": lambda x: x * (x.atan() / arb.pi() + arb(1) / 2),
    "atlu'": lambda x: x.atan() / arb.pi() + arb(1) / 2 + x / (arb.pi() * (1 + x * x)),
}


def basis_witness(name: str, x: float | Fraction, bits: int, start: int | None = None) -> arb:
    """Arb's ball of a basis function at an exact x, with `bits` relative bits (or exactly 0)."""
    precision = start or bits + 40
    while precision <= 1 << 15:
        with arithmetic(precision):
            ball = BASES[name](to_arb(x))
            if ball.is_zero() or (ball.is_finite() and ball.rel_accuracy_bits() >= bits):
                return ball
        precision *= 2
    raise ArithmeticError(f"{name} at {x!r}: no {bits} bits")


def basis_inputs(name: str, n: int, seed: int) -> np.ndarray:
    """n inputs from −745 to 700: everyday ones, every binade, and what the reduction finds hardest."""
    rng = np.random.default_rng(seed)
    neighbours = np.array([-2, -1, 0, 1, 2])

    def around(points: np.ndarray) -> np.ndarray:
        return (points[:, None] + neighbours * np.spacing(np.abs(points))[:, None]).ravel()

    k = np.arange(-2020, 2020)
    hard = np.concatenate(
        [
            around(k * (math.log(2) / 2)),
            around(np.array([-0.347, 0.347, -700.0, -708.4, -709.0, -1.0, 1.0, -1.2784645427610738])),
            around(np.ldexp(1.0, np.arange(-1070, 9))),
            -around(np.ldexp(1.0, np.arange(-1070, 9))),
            np.array([0.0, 5e-324, -5e-324, 2.0**-1022, -(2.0**-1022)]),
        ]
    )
    count = n - min(hard.size, n // 2)
    spread = np.concatenate(
        [
            rng.uniform(-8, 8, count // 2),
            rng.uniform(-745, 700, count // 4),
            np.ldexp(rng.uniform(-2, 2, count - count // 2 - count // 4), rng.integers(-1074, 8, 1)[0] - 0),
        ]
    )
    tail = spread[-(count - count // 2 - count // 4) :]
    spread[-tail.size :] = np.ldexp(
        rng.uniform(-2, 2, tail.size), rng.integers(-1060, 8, tail.size).astype(np.int32)
    )
    chosen = hard if hard.size <= n // 2 else rng.permutation(hard)[: n // 2]
    x = np.concatenate([chosen, spread])
    return x[(x >= -745) & (x <= 700)]


def containment(name: str, x: np.ndarray, high: Any, low: Any, radius: Any) -> tuple[float, float]:
    """Largest (distance of Arb's whole ball from high + low) / radius, and its x.

    Enclosures that claim nothing (infinite radius) are skipped; an exact claim that is wrong gives inf.
    """
    worst, where = 0.0, math.nan
    for value, h, s, r in zip(x.tolist(), high.tolist(), low.tolist(), radius.tolist(), strict=True):
        if not r < math.inf or not math.isfinite(h):
            continue
        ratio = _ratio(BASES[name], value, h, s, r)
        if not ratio <= worst:
            worst, where = ratio, value
    return worst, where


def _ratio(function: Callable[[arb], arb], x: float, high: float, low: float, radius: float) -> float:
    """Upper bound of |f(x) − high − low| / radius; the precision grows until Arb's ball can judge it."""
    precision = 192
    while True:
        with arithmetic(precision):
            error = abs(function(arb(x)) - arb(high) - arb(low))
            if error.is_zero():
                return 0.0
            if radius == 0:
                if error > 0 or precision > 1 << 13:
                    return math.inf
            elif error.is_finite() and (error.rad() <= arb(radius) / 2**60 or precision > 1 << 13):
                return float((error / arb(radius)).abs_upper())
        precision *= 2
