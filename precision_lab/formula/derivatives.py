"""Derivatives of expressions, in forms that do not cancel: σ' = σ(u)·σ(−u), tanh' = 4·σ(2u)·σ(−2u)."""

from __future__ import annotations

from collections.abc import Callable

from precision_lab.formula.expression import PI, SIGMOID_SLOPE, Expression, node, number, symbols_of
from precision_lab.formula.rewriting import (
    ONE,
    TWO,
    ZERO,
    add,
    choose,
    div,
    function,
    mul,
    neg,
    power,
    simplified,
    sub,
)


def _sigmoid_slope(u: Expression) -> Expression:
    return function(SIGMOID_SLOPE, u)


def _gaussian(u: Expression) -> Expression:
    """2/√π·e^(−u²), the derivative of erf."""
    return mul(div(TWO, function("sqrt", PI)), function("exp", neg(power(u, TWO))))


_SLOPES: dict[str, Callable[[Expression], Expression]] = {
    "exp": lambda u: function("exp", u),
    "expm1": lambda u: function("exp", u),
    "exp2": lambda u: mul(function("log", TWO), function("exp2", u)),
    "log": lambda u: div(ONE, u),
    "log1p": lambda u: div(ONE, add(ONE, u)),
    "sqrt": lambda u: div(number(1), mul(TWO, function("sqrt", u))),
    "rsqrt": lambda u: neg(div(function("rsqrt", u), mul(TWO, u))),
    "sin": lambda u: function("cos", u),
    "cos": lambda u: neg(function("sin", u)),
    "tan": lambda u: div(ONE, power(function("cos", u), TWO)),
    "tanh": lambda u: mul(number(4), _sigmoid_slope(mul(TWO, u))),
    "sigmoid": _sigmoid_slope,
    SIGMOID_SLOPE: lambda u: neg(mul(_sigmoid_slope(u), function("tanh", div(u, TWO)))),
    "softplus": lambda u: function("sigmoid", u),
    "erf": _gaussian,
    "erfc": lambda u: neg(_gaussian(u)),
    "atan": lambda u: div(ONE, add(ONE, power(u, TWO))),
    "sinh": lambda u: function("cosh", u),
    "cosh": lambda u: function("sinh", u),
}


def derivative(e: Expression, name: str) -> Expression:
    """de/d(symbol `name`), simplified; of `where` the derivative of the branch that is taken."""
    memo: dict[Expression, Expression] = {}

    def go(part: Expression) -> Expression:
        if part not in memo:
            memo[part] = _derived(part, name, go)
        return memo[part]

    return go(simplified(e))


def _derived(e: Expression, name: str, go: Callable[[Expression], Expression]) -> Expression:
    if e.kind == "symbol":
        return ONE if e.args[0] == name else ZERO
    if name not in symbols_of(e):
        return ZERO
    if e.kind == "where":
        condition, a, b = e.args
        return choose(condition, go(a), go(b))
    if e.kind == "neg":
        return neg(go(e.args[0]))
    if e.kind in ("add", "sub"):
        return (add if e.kind == "add" else sub)(go(e.args[0]), go(e.args[1]))
    if e.kind == "mul":
        a, b = e.args
        return add(mul(go(a), b), mul(a, go(b)))
    if e.kind == "div":
        a, b = e.args
        first = div(go(a), b)
        return first if name not in symbols_of(b) else sub(first, div(mul(a, go(b)), power(b, TWO)))
    if e.kind == "power":
        a, n = e.args
        found = mul(mul(n, power(a, sub(n, ONE))), go(a))
        if name in symbols_of(n):
            found = add(found, mul(mul(node("power", a, n), function("log", a)), go(n)))
        return found
    return mul(_SLOPES[e.kind](e.args[0]), go(e.args[0]))
