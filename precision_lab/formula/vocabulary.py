"""The functions that formulas are written with; `precision_lab.math` hands them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from precision_lab.exceptions import UsageError
from precision_lab.formula.claims import Claim, made
from precision_lab.formula.expression import PI, Comparison, Expression, lift, node, number, unknown, where

pi = PI


def _function(kind: str, what: str) -> Callable[[Any], Expression]:
    def function(x: Any) -> Expression:
        return node(kind, lift(x))

    function.__name__ = function.__qualname__ = kind
    function.__doc__ = what
    return function


exp = _function("exp", "eˣ.")
expm1 = _function("expm1", "eˣ − 1.")
exp2 = _function("exp2", "2ˣ.")
log = _function("log", "The natural logarithm, for x > 0.")
log1p = _function("log1p", "log(1 + x), for x > −1.")
sqrt = _function("sqrt", "√x, for x ≥ 0.")
rsqrt = _function("rsqrt", "1/√x, for x > 0.")
sin = _function("sin", "sin x, x in radians.")
cos = _function("cos", "cos x, x in radians.")
tan = _function("tan", "tan x, x in radians.")
tanh = _function("tanh", "The hyperbolic tangent.")
sigmoid = _function("sigmoid", "σ(x) = 1/(1 + e⁻ˣ).")
erf = _function("erf", "The error function, 2/√π·∫₀ˣ e^(−t²) dt.")
erfc = _function("erfc", "1 − erf(x).")
atan = _function("atan", "The arc tangent, in radians.")
sinh = _function("sinh", "The hyperbolic sine.")
cosh = _function("cosh", "The hyperbolic cosine.")


def softplus(x: Any, beta: Any = 1, threshold: Any = None) -> Expression:
    """log(1 + e^(βx))/β; where βx > threshold, if there is one, x itself, as torch defines it."""
    x, beta = lift(x), lift(beta)
    smooth = node("softplus", x) if beta is number(1) else node("softplus", beta * x) / beta
    if threshold is None:
        return smooth
    return where((x if beta is number(1) else beta * x) > lift(threshold), x, smooth)


def absolute(x: Any) -> Expression:
    """|x|; its derivative at 0 is that of x."""
    found: Expression = abs(lift(x))
    return found


def maximum(a: Any, b: Any) -> Expression:
    """The larger of two; where they are equal, the first, and its derivative."""
    a, b = lift(a), lift(b)
    return where(a >= b, a, b)


def minimum(a: Any, b: Any) -> Expression:
    """The smaller of two; where they are equal, the first, and its derivative."""
    a, b = lift(a), lift(b)
    return where(a <= b, a, b)


def clamp(x: Any, min: Any = None, max: Any = None) -> Expression:
    """x between two limits, either of which may be None; at a limit the derivative is that of x."""
    found = lift(x)
    if min is not None:
        found = maximum(found, min)
    return found if max is None else minimum(found, max)


def square(x: Any) -> Expression:
    """x²."""
    return lift(x) ** 2


def power(x: Any, exponent: Any) -> Expression:
    """x to an exponent: whole numbers for every x, others for x ≥ 0."""
    found: Expression = lift(x) ** exponent
    return found


def sign(x: Any) -> Expression:
    """−1, 0 or 1."""
    x = lift(x)
    return where(x > 0, 1, where(x < 0, -1, 0))


def relu(x: Any) -> Expression:
    """x for x > 0, else 0."""
    x = lift(x)
    return where(x > 0, x, 0)


def piecewise(*pieces: tuple[Any, Any], otherwise: Any = None) -> Expression:
    """The value of the one condition that holds: piecewise((x < 0, 0), (x >= 0, x)).

    Args:
        pieces: conditions and values. Where two of them hold, the values must be equal.
        otherwise: the value where none holds; None: there is no such x.

    What is said of the conditions is checked when a function of it is defined, and again at every set of
    parameter values that it is evaluated with: see `claims`.

    Raises:
        ValueError: no pieces, or a condition that is no comparison.
    """
    if not pieces:
        raise UsageError("piecewise() needs at least one (condition, value)")
    for piece in pieces:
        if not (isinstance(piece, tuple) and len(piece) == 2 and isinstance(piece[0], Comparison)):
            raise UsageError(f"piecewise: {piece!r} is no pair of a comparison and a value")
    claim = Claim(
        tuple((condition, lift(value)) for condition, value in pieces),
        None if otherwise is None else lift(otherwise),
    )
    made(claim)
    return _joined(claim.pieces, claim.otherwise)


def _joined(pieces: tuple[tuple[Comparison, Expression], ...], otherwise: Expression | None) -> Expression:
    (condition, value), *rest = pieces
    if not rest:
        return value if otherwise is None else where(condition, value, otherwise)
    return where(condition, value, _joined(tuple(rest), otherwise))


_BY_NAME: dict[str, Callable[..., Expression]] = {
    f.__name__: f
    for f in (
        exp, expm1, exp2, log, log1p, sqrt, rsqrt, sin, cos, tan, tanh, sigmoid, erf, erfc, atan, sinh, cosh,
        softplus, maximum, minimum, clamp, square, power, sign, where,
    )
} | {
    "abs": absolute, "absolute": absolute, "fabs": absolute, "arctan": atan, "max": maximum, "min": minimum,
    "relu": lambda x, inplace=False: relu(x),  # as torch.nn.functional hands it over
    "clip": clamp, "pow": power, "float_power": power, "expit": sigmoid,
    "add": lambda a, b: lift(a) + b, "subtract": lambda a, b: lift(a) - b, "sub": lambda a, b: lift(a) - b,
    "multiply": lambda a, b: lift(a) * b, "mul": lambda a, b: lift(a) * b,
    "divide": lambda a, b: lift(a) / b, "true_divide": lambda a, b: lift(a) / b,
    "div": lambda a, b: lift(a) / b,
    "negative": lambda a: -lift(a), "neg": lambda a: -lift(a), "reciprocal": lambda a: 1 / lift(a),
    "less": lambda a, b: lift(a) < b, "less_equal": lambda a, b: lift(a) <= b,
    "greater": lambda a, b: lift(a) > b, "greater_equal": lambda a, b: lift(a) >= b,
}  # fmt: skip


def by_name(name: str, written: str) -> Callable[..., Expression]:
    """The function that numpy, torch or a method calls so.

    Args:
        written: as the formula has it, for the error.

    Raises:
        ValueError: there is none.
    """
    if name not in _BY_NAME:
        raise unknown(written)
    return _BY_NAME[name]


Expression.named = staticmethod(by_name)

__all__ = ["absolute", "by_name", "piecewise", "where"]
