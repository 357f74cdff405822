"""Expressions over mpmath numbers as they stand: what the lab makes of a tree is held to the tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from precision_lab.formula.expression import Expression

Limits = Mapping[str, tuple[float, float]]


def evaluated(e: Expression, values: dict[str, Any], m: Any, limits: Limits | None = None) -> Any:
    """A tree at numbers, operation by operation.

    Args:
        limits: of arguments, by function.

    Raises:
        ValueError: an argument is beyond them.
    """
    if e.kind == "number":
        return m.mpf(e.args[0].numerator) / e.args[0].denominator
    if e.kind == "symbol":
        return m.mpf(values[e.args[0]])
    if e.kind == "pi":
        return m.pi * 1
    if e.kind == "where":
        c, a, b = e.args
        left, right = (evaluated(side, values, m, limits) for side in (c.left, c.right))
        return evaluated(a if (left < right if c.strict else left <= right) else b, values, m, limits)
    parts = [evaluated(part, values, m, limits) for part in e.args]
    least, most = (limits or {}).get(e.kind, (-m.inf, m.inf))
    if not least <= parts[0] <= most:
        raise ValueError(f"{e.kind} of {parts[0]}")
    return OPERATIONS[e.kind](m, *parts)


def _power(m: Any, a: Any, n: Any) -> Any:
    if n != int(n) and a < 0:
        raise ValueError("no whole power of a negative number")
    return a ** int(n) if n == int(n) else m.exp(n * m.log(a))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda m, a, b: a + b,
    "sub": lambda m, a, b: a - b,
    "mul": lambda m, a, b: a * b,
    "div": lambda m, a, b: a / b,
    "neg": lambda m, a: -a,
    "power": _power,
    "exp2": lambda m, u: m.mpf(2) ** u,
    "rsqrt": lambda m, u: 1 / m.sqrt(u),
    "sigmoid": lambda m, u: 1 / (1 + m.exp(-u)),
    "sigmoid_slope": lambda m, u: m.exp(-u) / (1 + m.exp(-u)) ** 2,
    "softplus": lambda m, u: m.log(1 + m.exp(u)),
    **{
        kind: (lambda m, u, kind=kind: getattr(m, kind)(u))
        for kind in (
            "exp",
            "expm1",
            "log",
            "log1p",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "tanh",
            "erf",
            "erfc",
            "atan",
            "sinh",
            "cosh",
        )
    },
}
