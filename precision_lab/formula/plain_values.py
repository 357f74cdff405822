"""A formula in plain mpmath numbers: enough to tell two formulas apart, never to certify a value."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from precision_lab.formula.expression import Expression, children

DIGITS = 60


def plain_value(e: Expression, values: Mapping[str, float]) -> Any:
    """The value as an mpmath number of 60 digits; NaN where there is none.

    Branches not taken are not evaluated.

    Args:
        values: of every symbol.
    """
    import mpmath  # a definition alone loads nothing heavy

    mp = mpmath.MPContext()
    mp.dps = DIGITS
    memo: dict[Expression, Any] = {}

    def go(part: Expression) -> Any:
        if part not in memo:
            memo[part] = _applied(part, go, values, mp)
        return memo[part]

    found = go(e)
    return found if mp.isfinite(found) and not getattr(found, "imag", 0) else mp.nan


def _applied(e: Expression, go: Any, values: Mapping[str, float], mp: Any) -> Any:
    if e.kind == "number":
        return _fraction(e.args[0], mp)
    if e.kind == "symbol":
        return mp.mpf(values[e.args[0]])
    if e.kind == "pi":
        return +mp.pi
    if e.kind == "where":
        condition, a, b = e.args
        left, right = go(condition.left), go(condition.right)
        return go(a if (left < right if condition.strict else left <= right) else b)
    parts = [go(p) for p in children(e)]
    try:
        return _FUNCTIONS[e.kind](mp, *parts)
    except (ZeroDivisionError, ValueError, OverflowError):
        return mp.nan


def _fraction(value: Fraction, mp: Any) -> Any:
    return mp.mpf(value.numerator) / value.denominator


_FUNCTIONS: dict[str, Any] = {
    "add": lambda mp, a, b: a + b,
    "sub": lambda mp, a, b: a - b,
    "mul": lambda mp, a, b: a * b,
    "div": lambda mp, a, b: a / b,
    "neg": lambda mp, a: -a,
    "power": lambda mp, a, b: a**b,
    "exp2": lambda mp, u: mp.mpf(2) ** u,
    "rsqrt": lambda mp, u: 1 / mp.sqrt(u),
    "sigmoid": lambda mp, u: 1 / (1 + mp.exp(-u)),
    "sigmoid_slope": lambda mp, u: mp.exp(-abs(u)) / (1 + mp.exp(-abs(u))) ** 2,
    "softplus": lambda mp, u: max(u, 0) + mp.log1p(mp.exp(-abs(u))),
} | {
    name: (lambda mp, u, name=name: getattr(mp, name)(u))
    for name in (
        "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "erf", "erfc", "atan", "sinh",
        "cosh",
    )
}  # fmt: skip
