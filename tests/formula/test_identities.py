"""Every exact identity of the rewriting, attacked with numbers of both signs, large and small.

The tree as it was written and the tree that came out are evaluated side by side, over mpmath and to 60
digits, by a small evaluator (`tree_witness`): nothing is rounded to fit.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import jets
import pytest
from tree_witness import evaluated

from precision_lab.formula.derivatives import derivative
from precision_lab.formula.expression import FUNCTIONS, PI, Expression, X, node, number
from precision_lab.formula.rewriting import bound, simplified, taken
from precision_lab.functions import FUNCTIONS as ACTIVATIONS
from precision_lab.math import (
    atan,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    pi,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    tan,
    tanh,
    where,
)

DIGITS = 60
CANCELLING = 1200  # bits in which identities are compared: what cancels on one side must still show


HALF = Fraction(1, 2)
# What is written, and an operation that must be gone, or "" where the tree becomes another.
WRITTEN: dict[str, Expression] = {
    "1 + tanh": 1 + tanh(X),
    "tanh + 1": tanh(3 * X) + 1,
    "1 - tanh": 1 - tanh(X),
    "tanh - 1": tanh(X) - 1,
    "1 + erf": 1 + erf(X),
    "erf + 1": erf(X / 2) + 1,
    "1 - erf": 1 - erf(X),
    "erf - 1": erf(X) - 1,
    "1 - erfc": 1 - erfc(X),
    "1 - sigmoid": 1 - sigmoid(X),
    "sigmoid - 1": sigmoid(X) - 1,
    "exp - 1": exp(X) - 1,
    "-1 + exp": -1 + exp(X),
    "1 + expm1": 1 + expm1(X),
    "expm1 + 1": expm1(X) + 1,
    "log exp": log(exp(X)),
    "log sigmoid": log(sigmoid(X)),
    "log (1 + u)": log(1 + X**2),
    "log (u + 1)": log(exp(X) + 1),
    "log (1 - u)": log(1 - sin(X) / 2),
    "log1p exp": log1p(exp(X)),
    "x/(1 + exp)": X / (1 + exp(X)),
    "x/(exp + 1)": X / (exp(-X) + 1),
    "1/(1 + exp)": 1 / (1 + exp(-2 * X)),
    "slope": sigmoid(X) * sigmoid(-X),
    "slope turned": sigmoid(-2 * X) * sigmoid(2 * X),
    "sin -": sin(-X),
    "cos -": cos(-X),
    "tan -": tan(-X),
    "tanh -": tanh(-X),
    "erf -": erf(-X),
    "atan -": atan(-X),
    "sinh -": sinh(-X),
    "cosh -": cosh(-X),
    "a - (-b)": X - (-sin(X)),
    "a + (-b)": X + (-sin(X)),
    "-a + b": -X + sin(X),
    "-(a - b)": -(X - sin(X)),
    "(-a)(b)": (-X) * sin(X),
    "a(-b)": X * (-sin(X)),
    "(-a)/b": (-X) / (2 + sin(X)),
    "a/(-b)": X / (-(2 + sin(X))),
    "c(da)": 3 * (Fraction(2, 7) * X),
    "c(d/a)": 3 * (2 / (X**2 + 1)),
    "c(a/d)": 3 * (X / 7),
    "(ca)/d": (3 * X) / 7,
    "c/(da)": 3 / (7 * (X**2 + 1)),
    "(1/a)b": (1 / (X**2 + 1)) * X,
    "a(1/b)": X * (1 / (X**2 + 1)),
    "aa": X * X,
    "a^n a": X**3 * X,
    "a a^n": X * X**3,
    "(a^m)^n": (X**2) ** 3,
    "(a/b)^n": (X / (X**2 + 1)) ** 3,
    "(ca)^n": (3 * X) ** 3,
    "(-a)^2": (-X) ** 2,
    "(-a)^3": (-X) ** 3,
    "a^-n": (X**2 + 1) ** -2,
    "sqrt^2": sqrt(pi) ** 2,
    "sqrt2^4": sqrt(number(2)) ** 4,
    "a^½": (X**2 + 1) ** HALF,
    "a^-½": (X**2 + 1) ** -HALF,
    "0 + a": 0 + sin(X),
    "a - a": sin(X) - sin(X) + X,
    "0 - a": 0 - X,
    "1a": 1 * X,
    "a/1": X / 1,
    "-1a": -1 * X,
    "neg neg": node("neg", -X),
    "a^1": X**1,
    "a^0": X**0 + X,
    "0a": 0 * X + X,
    "0/a": 0 / (X**2 + 1) + X,
    "at 0": exp(X * 0) + cos(0 * X) + sigmoid(0 * X) + erfc(0 * X) + cosh(X * 0) + X,
    "rsqrt": rsqrt(X**2 + 1) * 2,
    "nested": tanh(softplus(-X)) * (1 - sigmoid(-X)) + (1 + erf(-X / sqrt(2))) / 2,
    "where": where(exp(X) - 1 > 0, 1 + tanh(X), maximum(X, 1 - sigmoid(X))),
    "same branches": where(X > 0, X * 1, X),
    "constant condition": where(number(1) < 2, X, 0),
}


def _points(name: str) -> list[Fraction]:
    """Both signs, 2^-60 to 2^4; dyadic, so that mpmath's numbers are they."""
    draw = random.Random(name)
    sizes = [
        draw.randint(2**20, 2**21) * Fraction(2) ** (k - 20)
        for k in (-60, -30, -12, -4, -2, -1, 0, 0, 1, 2, 3, 3)
    ]
    return [s for size in sizes for s in (size, -size)] + [Fraction(0)]


def _same(a: Any, b: Any, m: Any) -> bool:
    return bool(abs(a - b) <= m.mpf(10) ** -DIGITS * max(abs(a), abs(b)))


@pytest.mark.parametrize("name", WRITTEN)
def test_an_identity_holds_at_any_number(name: str) -> None:
    written, m = WRITTEN[name], jets.context(CANCELLING)
    result = simplified(written)
    assert result is not written, "nothing is rewritten: this is no identity of the lab's"
    assert simplified(result) is result
    for x in _points(name):
        values = {"x": m.mpf(x.numerator) / x.denominator}
        a, b = evaluated(written, values, m), evaluated(result, values, m)
        assert _same(a, b, m), f"x={x}: {written} is {a}, {result} is {b}"


GONE = {
    "1 + tanh": "tanh",
    "1 - tanh": "tanh",
    "tanh - 1": "tanh",
    "1 + erf": "add",
    "1 - erf": "sub",
    "1 - sigmoid": "sub",
    "exp - 1": "sub",
    "log exp": "log",
    "log sigmoid": "log",
    "log1p exp": "log1p",
    "x/(1 + exp)": "div",
    "slope": "mul",
    "sqrt^2": "sqrt",
    "log (u + 1)": "log",
    "-1 + exp": "add",
}


@pytest.mark.parametrize("name", GONE)
def test_a_form_that_cancels_is_replaced(name: str) -> None:
    from precision_lab.formula.writing import operations

    assert GONE[name] in {o.kind for o in operations(WRITTEN[name])}
    assert GONE[name] not in {o.kind for o in operations(simplified(WRITTEN[name]))}


@pytest.mark.parametrize("name", [f.name for f in ACTIVATIONS.values() if f.sides])
def test_outputs_are_what_their_formulas_are(name: str) -> None:
    """Simplifying and binding parameters change nothing, conditions taken or not."""
    f, m = ACTIVATIONS[name], jets.context(CANCELLING)
    params = {p.name: Fraction(p.default) * Fraction(17, 16) for p in f.parameters}
    plain = {key: m.mpf(v.numerator) / v.denominator for key, v in params.items()}
    e, short = f.expression, bound(simplified(f.expression), params)
    for x in _points(name):
        at = m.mpf(x.numerator) / x.denominator
        value = evaluated(e, {"x": at, **plain}, m)
        assert _same(value, evaluated(short, {"x": at}, m), m), x
        if short.kind == "where":
            branch = taken(short, {short.args[0]: x > 0})
            assert branch.kind != "where" and (not x or _same(value, evaluated(branch, {"x": at}, m), m))


SLOPES = {kind: node(kind, u) for kind in FUNCTIONS for u in (X * X + HALF,)} | {
    "power of x": (X * X + 1) ** X,
    "quotient": sin(X) / (X * X + 1),
    "product": X * exp(X) * sigmoid(X),
    "power": (X * X + 1) ** Fraction(7, 3),
    "difference": X**3 - 2 * X - tanh(X) ** 2,
    "where": where(X > 1, X**3, exp(X)),
}


@pytest.mark.parametrize("name", SLOPES)
def test_a_derivative_is_the_limit_of_quotients(name: str) -> None:
    """(f(x + h) − f(x − h))/2h with h = 2^-200 is f′ to 2^-400·f‴; 120 digits are kept."""
    e, m = SLOPES[name], jets.context(900)
    slope = derivative(e, "x")
    second = derivative(slope, "x")
    h = m.mpf(2) ** -200
    for f, g in ((e, slope), (slope, second)):
        for x in (-1.375, -0.5, 0.25, 1.5, 2.625):
            about = (evaluated(f, {"x": m.mpf(x) + h}, m) - evaluated(f, {"x": m.mpf(x) - h}, m)) / (2 * h)
            got = evaluated(g, {"x": x}, m)
            assert abs(got - about) <= m.mpf(10) ** -80 * (1 + abs(about)), f"{g} at {x}"


def test_derivatives_for_parameters_leave_x_alone() -> None:
    from precision_lab.formula.expression import symbol

    a = symbol("a")
    assert derivative(a * X**2 + PI, "a") is X**2
    assert derivative(where(a < X, X, 3), "a") is number(0)
    assert derivative(sin(a) * 0 + X, "a") is number(0)
