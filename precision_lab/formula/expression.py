"""Expressions: what a traced formula is made of, one object for each different expression.

A node has a `kind` and arguments: numbers are exact fractions, symbols are x, parameters and operands, the
rest are operations. Equal expressions are the same object, so that identity is equality and memos are plain
dictionaries. Nothing is rewritten here: an expression stands as it was written (`rewriting` does the rest).
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from typing import Any, ClassVar, NoReturn

from precision_lab.exceptions import UsageError

ARITHMETIC = ("add", "sub", "mul", "div", "neg", "power")
# Functions of one argument that every evaluator knows.
FUNCTIONS = (
    "exp", "expm1", "exp2", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid",
    "softplus", "erf", "erfc", "atan", "sinh", "cosh",
)  # fmt: skip
# σ(u)·σ(−u), the slope of σ, which `rewriting` finds: one function, since its factors' rests cancel next to
# 0.
SIGMOID_SLOPE = "sigmoid_slope"


class UnknownOperationError(UsageError, AttributeError, TypeError):
    """A formula uses an operation that the lab has no certified evaluation of."""


def unknown(operation: str, instead: str = "") -> UnknownOperationError:
    known = ", ".join(("+ - * / **", *FUNCTIONS, "abs", "minimum", "maximum", "clamp", "where", "piecewise"))
    return UnknownOperationError(
        f"a formula cannot use {operation}: "
        + (instead or f"there is no certified evaluation of it; known are {known}")
    )


class Expression:
    """A real number that depends on x, parameters and operands; made by `number`, `symbol` and operations.

    Attributes:
        kind: "number", "symbol", "pi", one of `ARITHMETIC` or `FUNCTIONS`, or "where".
        args: a Fraction, a name, or expressions; of "where" a `Comparison` and two expressions.
    """

    __slots__ = ("__weakref__", "args", "kind")
    # What numpy, torch and methods call by a name; `vocabulary` knows the names.
    named: ClassVar[Any]
    # numpy and torch hand their functions over instead of trying to convert.
    __array_priority__ = 1000

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind, self.args = kind, args

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(map(repr, self.args))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return node, (self.kind, *self.args)

    def __add__(self, other: Any) -> Expression:
        return node("add", self, lift(other))

    def __radd__(self, other: Any) -> Expression:
        return node("add", lift(other), self)

    def __sub__(self, other: Any) -> Expression:
        return node("sub", self, lift(other))

    def __rsub__(self, other: Any) -> Expression:
        return node("sub", lift(other), self)

    def __mul__(self, other: Any) -> Expression:
        return node("mul", self, lift(other))

    def __rmul__(self, other: Any) -> Expression:
        return node("mul", lift(other), self)

    def __truediv__(self, other: Any) -> Expression:
        return node("div", self, lift(other))

    def __rtruediv__(self, other: Any) -> Expression:
        return node("div", lift(other), self)

    def __pow__(self, other: Any) -> Expression:
        return node("power", self, lift(other))

    def __rpow__(self, other: Any) -> Expression:
        return node("power", lift(other), self)

    def __neg__(self) -> Expression:
        return node("neg", self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return where(self < 0, -self, self)

    def __lt__(self, other: Any) -> Comparison:
        return comparison(self, lift(other), True)

    def __le__(self, other: Any) -> Comparison:
        return comparison(self, lift(other), False)

    def __gt__(self, other: Any) -> Comparison:
        return comparison(lift(other), self, True)

    def __ge__(self, other: Any) -> Comparison:
        return comparison(lift(other), self, False)

    def __bool__(self) -> NoReturn:
        raise unknown("the truth value of an expression", "write where(condition, value, otherwise)")

    def __float__(self) -> NoReturn:
        raise unknown(
            "functions of plain numbers, such as those of Python's math",
            "take exp, sin, … from precision_lab.math",
        )

    __int__ = __index__ = __complex__ = __float__

    def __mod__(self, other: Any) -> NoReturn:
        raise unknown("%")

    __rmod__ = __mod__

    def __floordiv__(self, other: Any) -> NoReturn:
        raise unknown("//")

    __rfloordiv__ = __floordiv__

    def __round__(self, digits: Any = None) -> NoReturn:
        raise unknown("round")

    def __matmul__(self, other: Any) -> NoReturn:
        raise unknown("@")

    __rmatmul__ = __matmul__

    def __and__(self, other: Any) -> NoReturn:
        raise unknown(
            "& of numbers", "& and | join comparisons: put each in brackets, as in (x > 0) & (x < 1)"
        )

    __rand__ = __or__ = __ror__ = __and__

    def __iter__(self) -> NoReturn:
        raise unknown("iteration", "x is one number")

    def __getitem__(self, key: Any) -> NoReturn:
        raise unknown("indexing", "x is one number")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.named(ufunc.__name__, f"numpy.{ufunc.__name__}")(*inputs)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", str(function))
        return cls.named(name, f"torch's {name}")(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.named(name, f".{name}"), self)


class Comparison:
    """left < right, or left ≤ right where not `strict`; joined by & and | and turned around by ~."""

    __slots__ = ("__weakref__", "left", "right", "strict")
    __array_ufunc__ = None
    __torch_function__ = Expression.__torch_function__  # torch.where(x > 0, x, 0)

    def __init__(self, left: Expression, right: Expression, strict: bool) -> None:
        self.left, self.right, self.strict = left, right, strict

    def __reduce__(self) -> tuple[Any, ...]:
        return comparison, (self.left, self.right, self.strict)

    def __repr__(self) -> str:
        return f"{self.left!r} {'<' if self.strict else '<='} {self.right!r}"

    def __bool__(self) -> NoReturn:
        raise unknown(
            "the truth value of a comparison (if, and, or, max, min, a < x < b)",
            "write where(condition, value, otherwise), maximum, minimum, and (a < x) & (x < b)",
        )

    def __and__(self, other: Any) -> Condition:
        return Condition("and", (self, _condition(other)))

    def __or__(self, other: Any) -> Condition:
        return Condition("or", (self, _condition(other)))

    def __invert__(self) -> Comparison:
        return comparison(self.right, self.left, not self.strict)

    __rand__, __ror__ = __and__, __or__


class Condition(Comparison):
    """Two conditions, both or either."""

    __slots__ = ("how", "parts")

    def __init__(self, how: str, parts: tuple[Comparison, Comparison]) -> None:
        self.how, self.parts = how, parts

    def __repr__(self) -> str:
        return f"({self.parts[0]!r}) {'&' if self.how == 'and' else '|'} ({self.parts[1]!r})"

    def __invert__(self) -> Comparison:
        return Condition("or" if self.how == "and" else "and", (~self.parts[0], ~self.parts[1]))


def _condition(value: Any) -> Comparison:
    if isinstance(value, Comparison):
        return value
    raise UsageError(
        f"condition={value!r} is no comparison of x or parameters; write it with < <= > >=, joined by & "
        "and |. x == 0 compares objects: write (x <= 0) & (x >= 0)"
    )


@cache
def node(kind: str, *args: Any) -> Expression:
    """The one expression with this kind and these arguments."""
    return Expression(kind, args)


@cache
def comparison(left: Expression, right: Expression, strict: bool) -> Comparison:
    return Comparison(left, right, strict)


def number(value: Fraction | int) -> Expression:
    return node("number", Fraction(value))


def symbol(name: str) -> Expression:
    return node("symbol", name)


PI = node("pi")
X = symbol("x")


def lift(value: Any) -> Expression:
    """An expression as it is, a number as the exact one that Python holds: 0.1 is a float64 near 1/10.

    Raises:
        ValueError: no number, or one that is not finite.
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, Comparison):
        raise unknown("a comparison as a number", "write where(condition, 1, 0)")
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction, Decimal)):
        item = getattr(value, "item", None)
        if isinstance(value, bool) or item is None or getattr(value, "ndim", 1) != 0:
            raise UsageError(f"{value!r} in a formula is no number")
        return lift(item())
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        raise UsageError(f"{value!r} in a formula: constants must be finite")
    return number(Fraction(value))


def where(condition: Any, value: Any, otherwise: Any) -> Expression:
    """`value` where the condition holds, else `otherwise`; what is not taken counts for nothing there.

    A derivative is that of the branch taken, so that at a breakpoint the condition says which side counts.

    Raises:
        ValueError: the condition is no comparison.
    """
    condition, first, second = _condition(condition), lift(value), lift(otherwise)
    if isinstance(condition, Condition):
        a, b = condition.parts
        if condition.how == "and":
            return where(a, where(b, first, second), second)
        return where(a, first, where(b, first, second))
    return node("where", condition, first, second)


def children(e: Expression) -> tuple[Expression, ...]:
    """The expressions that an operation is of; a condition's two sides first."""
    if e.kind in ("number", "symbol", "pi"):
        return ()
    if e.kind == "where":
        c, a, b = e.args
        return (c.left, c.right, a, b)
    return e.args


def symbols_of(e: Expression) -> frozenset[str]:
    """Names of the symbols in an expression, those of conditions included."""
    return _symbols(e)


@cache
def _symbols(e: Expression) -> frozenset[str]:
    if e.kind == "symbol":
        return frozenset((e.args[0],))
    return frozenset[str]().union(*(_symbols(child) for child in children(e)))
