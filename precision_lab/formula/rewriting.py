"""Exact identities: constants folded, and forms that cancel replaced by equal ones that do not.

1 + tanh u = 2σ(2u), 1 + erf u = erfc(−u), 1 − σ(u) = σ(−u), eᵘ − 1, log(1 + u), a/(1 + eᵘ) = a·σ(−u),
log(1 + eᵘ) = softplus(u): each holds for every real u and loses nothing in a tail. Balls would find the same
values without them, with hundreds of bits more.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from precision_lab.formula.expression import (
    PI,
    SIGMOID_SLOPE,
    Comparison,
    Expression,
    children,
    comparison,
    node,
    number,
)

ZERO, ONE, TWO = number(0), number(1), number(2)
_LARGEST_POWER = 1000  # integer powers of constants beyond stay as they are


def add(a: Expression, b: Expression) -> Expression:
    if a.kind == b.kind == "number":
        return number(a.args[0] + b.args[0])
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    if b.kind == "neg":
        return sub(a, b.args[0])
    if a.kind == "neg":
        return sub(b, a.args[0])
    for one, other in ((a, b), (b, a)):
        if one is ONE and other.kind == "tanh":
            return mul(TWO, function("sigmoid", mul(TWO, other.args[0])))
        if one is ONE and other.kind == "erf":
            return function("erfc", neg(other.args[0]))
        if one is ONE and other.kind == "expm1":
            return function("exp", other.args[0])
        if one.kind == "number" and one.args[0] == -1 and other.kind == "exp":
            return function("expm1", other.args[0])
    return node("add", a, b)


def sub(a: Expression, b: Expression) -> Expression:
    if a.kind == b.kind == "number":
        return number(a.args[0] - b.args[0])
    if b is ZERO:
        return a
    if a is ZERO:
        return neg(b)
    if a is b:
        return ZERO
    if b.kind == "neg":
        return add(a, b.args[0])
    if b is ONE:
        if a.kind == "exp":
            return function("expm1", a.args[0])
        if a.kind in ("tanh", "erf", "sigmoid"):
            return neg(sub(ONE, a))
    if a is ONE:
        u: Expression = b.args[0] if b.kind in ("tanh", "erf", "erfc", "sigmoid") else ZERO
        if b.kind == "tanh":
            return mul(TWO, function("sigmoid", neg(mul(TWO, u))))
        if b.kind == "erf":
            return function("erfc", u)
        if b.kind == "erfc":
            return function("erf", u)
        if b.kind == "sigmoid":
            return function("sigmoid", neg(u))
    return node("sub", a, b)


def neg(a: Expression) -> Expression:
    if a.kind == "number":
        return number(-a.args[0])
    if a.kind == "neg":
        return a.args[0]  # type: ignore[no-any-return]
    if a.kind == "sub":
        return sub(a.args[1], a.args[0])
    if a.kind in ("mul", "div") and a.args[0].kind == "number":
        return (mul if a.kind == "mul" else div)(neg(a.args[0]), a.args[1])
    return node("neg", a)


def mul(a: Expression, b: Expression) -> Expression:
    if a.kind == b.kind == "number":
        return number(a.args[0] * b.args[0])
    if b.kind == "number":
        a, b = b, a
    if a is ZERO:
        return ZERO
    if a is ONE:
        return b
    if a.kind == "neg":
        return neg(mul(a.args[0], b))
    if b.kind == "neg":
        return neg(mul(a, b.args[0]))
    if a.kind == "number":
        if a.args[0] == -1:
            return neg(b)
        if b.kind == "mul" and b.args[0].kind == "number":
            return mul(number(a.args[0] * b.args[0].args[0]), b.args[1])
        if b.kind == "div" and b.args[0].kind == "number":
            return div(number(a.args[0] * b.args[0].args[0]), b.args[1])
        if b.kind == "div" and b.args[1].kind == "number":
            return mul(number(a.args[0] / b.args[1].args[0]), b.args[0])
    if a.kind == "div" and a.args[0] is ONE:
        return div(b, a.args[1])
    if b.kind == "div" and b.args[0] is ONE:
        return div(a, b.args[1])
    if a is b:
        return power(a, TWO)
    if a.kind == b.kind == "sigmoid" and neg(a.args[0]) is b.args[0]:
        return function(SIGMOID_SLOPE, a.args[0])
    if a.kind == "power" and a.args[0] is b and a.args[1].kind == "number":
        return power(b, add(a.args[1], ONE))
    if b.kind == "power" and b.args[0] is a and b.args[1].kind == "number":
        return power(a, add(b.args[1], ONE))
    return node("mul", a, b)


def div(a: Expression, b: Expression) -> Expression:
    if a.kind == b.kind == "number" and b is not ZERO:
        return number(a.args[0] / b.args[0])
    if (
        b.kind == "number"
        and b is not ZERO
        and b is not ONE
        and a.kind == "mul"
        and a.args[0].kind == "number"
    ):
        return mul(number(a.args[0].args[0] / b.args[0]), a.args[1])
    if b is ONE:
        return a
    if a is ZERO:
        return ZERO
    if a.kind == "neg":
        return neg(div(a.args[0], b))
    if b.kind == "neg":
        return neg(div(a, b.args[0]))
    if a.kind == "number" and b.kind == "mul" and b.args[0].kind == "number" and b.args[0] is not ZERO:
        return div(number(a.args[0] / b.args[0].args[0]), b.args[1])
    if b.kind == "add":
        for one, other in (b.args, b.args[::-1]):
            if one is ONE and other.kind == "exp":
                return mul(a, function("sigmoid", neg(other.args[0])))
    return node("div", a, b)


def power(a: Expression, n: Expression) -> Expression:
    if n.kind == "number":
        exponent: Fraction = n.args[0]
        if exponent == 0:
            return ONE
        if exponent == 1:
            return a
        if exponent == Fraction(1, 2):
            return function("sqrt", a)
        if exponent == Fraction(-1, 2):
            return function("rsqrt", a)
        if exponent.denominator == 1:
            if exponent < 0:
                return div(ONE, power(a, number(-exponent)))
            if a.kind == "number" and exponent <= _LARGEST_POWER:
                return number(a.args[0] ** int(exponent))
            if a.kind == "neg":
                return power(a.args[0], n) if exponent % 2 == 0 else neg(power(a.args[0], n))
            if a.kind == "sqrt" and (a.args[0] is PI or a.args[0].kind == "number") and exponent % 2 == 0:
                return power(a.args[0], number(exponent / 2))
            if a.kind == "div":
                return div(power(a.args[0], n), power(a.args[1], n))
            if a.kind == "mul" and a.args[0].kind == "number":
                return mul(power(a.args[0], n), power(a.args[1], n))
            if a.kind == "power" and a.args[1].kind == "number" and a.args[1].args[0].denominator == 1:
                return power(a.args[0], number(a.args[1].args[0] * exponent))
    return node("power", a, n)


_AT_ZERO = {
    "exp": 1, "expm1": 0, "exp2": 1, "log1p": 0, "sqrt": 0, "sin": 0, "cos": 1, "tan": 0, "tanh": 0,
    "sigmoid": Fraction(1, 2), SIGMOID_SLOPE: Fraction(1, 4), "erf": 0, "erfc": 1, "atan": 0, "sinh": 0,
    "cosh": 1,
}  # fmt: skip


def function(kind: str, u: Expression) -> Expression:
    if u is ZERO and kind in _AT_ZERO:
        return number(_AT_ZERO[kind])  # type: ignore[arg-type]
    if kind == "log":
        if u is ONE:
            return ZERO
        if u.kind == "exp":
            return u.args[0]  # type: ignore[no-any-return]
        if u.kind == "sigmoid":
            return neg(function("softplus", neg(u.args[0])))
        if u.kind == "add":
            for one, other in (u.args, u.args[::-1]):
                if one is ONE:
                    return function("log1p", other)
        if u.kind == "sub" and u.args[0] is ONE:
            return function("log1p", neg(u.args[1]))
    if kind == "log1p" and u.kind == "add":
        for one, other in (u.args, u.args[::-1]):
            if one.kind == "number" and one.args[0] == -1:
                return function("log", other)
    if kind == "log1p" and u.kind == "exp":
        return function("softplus", u.args[0])
    if u.kind == "neg":
        if kind in ("sin", "tan", "tanh", "erf", "atan", "sinh"):
            return neg(function(kind, u.args[0]))
        if kind in ("cos", "cosh", SIGMOID_SLOPE):
            return function(kind, u.args[0])
    return node(kind, u)


def choose(condition: Comparison, a: Expression, b: Expression) -> Expression:
    if a is b:
        return a
    if condition.left.kind == condition.right.kind == "number":
        return a if holds(condition) else b
    return node("where", condition, a, b)


def holds(condition: Comparison) -> bool:
    """Of a comparison of two numbers."""
    left, right = condition.left.args[0], condition.right.args[0]
    return bool(left < right if condition.strict else left <= right)


def rebuilt(e: Expression, parts: tuple[Expression, ...]) -> Expression:
    """An operation of other expressions, with identities applied; parts in the order of `children`."""
    if e.kind == "where":
        left, right, a, b = parts
        return choose(comparison(left, right, e.args[0].strict), a, b)
    two = {"add": add, "sub": sub, "mul": mul, "div": div, "power": power}
    if e.kind in two:
        return two[e.kind](*parts)
    return neg(*parts) if e.kind == "neg" else function(e.kind, *parts)


@cache
def simplified(e: Expression) -> Expression:
    """An equal expression in which nothing cancels that an identity saves."""
    parts = children(e)
    return rebuilt(e, tuple(simplified(part) for part in parts)) if parts else e


def bound(e: Expression, values: Mapping[str, Fraction]) -> Expression:
    """The expression with symbols replaced by numbers."""
    memo: dict[Expression, Expression] = {}

    def go(part: Expression) -> Expression:
        if part not in memo:
            if part.kind == "symbol":
                memo[part] = number(values[part.args[0]]) if part.args[0] in values else part
            else:
                inner = children(part)
                memo[part] = rebuilt(part, tuple(go(p) for p in inner)) if inner else part
        return memo[part]

    return go(e)


def taken(e: Expression, truth: Mapping[Comparison, bool]) -> Expression:
    """The expression with every condition of known truth replaced by the branch that it takes."""
    memo: dict[Expression, Expression] = {}

    def go(part: Expression) -> Expression:
        if part not in memo:
            if part.kind == "where" and part.args[0] in truth:
                memo[part] = go(part.args[1] if truth[part.args[0]] else part.args[2])
            else:
                inner = children(part)
                memo[part] = rebuilt(part, tuple(go(p) for p in inner)) if inner else part
        return memo[part]

    return go(e)
