"""Gappa definitions of the oracle's functions, written by running those very functions on symbols.

A `Symbol` stands for a real number that Gappa knows by name. Its operators write one definition each: rounded
to float64, as IEEE arithmetic does it, or exact. So a script follows the code: a changed step or constant
changes what is to be proven. What the functions call of numba's or of numpy's is replaced:

- `fma(a, b, c)` is the rounding of a·b + c;
- the exact transformations (`two_sum`, `fast_two_sum`, `two_product`) give fl(a + b) and the exact rest. That
  the rest is a float64 number and is what the code computes is Knuth's and Dekker's theorem, which is not
  proven here; `Script.exactness` collects what fast_two_sum needs for it.

Gappa's float<ieee_64, ne> has subnormal numbers and no largest number; what overflows is no matter here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from types import FunctionType
from typing import Any

Number = int | float | Fraction
_NAME = re.compile(r"\b[A-Za-z]\w*")


def literal(value: Number) -> str:
    """A number exactly, as Gappa reads it: m·2^e as `mbe`, other fractions as quotients of integers."""
    exact = Fraction(value)
    numerator, denominator = exact.numerator, exact.denominator
    if denominator & (denominator - 1):
        return f"({numerator} / {denominator})"
    text = f"{numerator}b{-(denominator.bit_length() - 1)}"
    return f"({text})" if numerator < 0 else text


def dyadic(value: Fraction, *, up: bool) -> Fraction:
    """The dyadic number of some 80 bits next above (`up`) or below a positive one."""
    scale = Fraction(2) ** (80 - value.numerator.bit_length() + value.denominator.bit_length())
    scaled = value * scale
    whole = scaled.numerator // scaled.denominator
    return Fraction(whole + (1 if up and whole != scaled else 0)) / scale


def within(name: str, low: Number, high: Number) -> str:
    """low ≤ name ≤ high, both ends dyadic."""
    return f"{name} in [{literal(low).strip('()')}, {literal(high).strip('()')}]"


def at_most(name: str, bound: Number) -> str:
    """|name| ≤ bound, a dyadic number."""
    return f"|{name}| <= {literal(bound)}"


class Symbol:
    """A real number with a name in a script; operators define further ones, rounded unless it is exact."""

    def __init__(self, script: Script, name: str) -> None:
        self.script, self.name = script, name

    def __add__(self, other: Operand) -> Symbol:
        return self.script.rounded(f"{self.name} + {self.script.text(other)}")

    def __radd__(self, other: Operand) -> Symbol:
        return self.script.rounded(f"{self.script.text(other)} + {self.name}")

    def __sub__(self, other: Operand) -> Symbol:
        return self.script.rounded(f"{self.name} - {self.script.text(other)}")

    def __mul__(self, other: Operand) -> Symbol:
        return self.script.rounded(f"{self.name} * {self.script.text(other)}")

    def __rmul__(self, other: Operand) -> Symbol:
        return self.script.rounded(f"{self.script.text(other)} * {self.name}")

    def __neg__(self) -> Symbol:
        return Symbol(self.script, f"(-{self.name})")


Operand = Symbol | Number


class Script:
    """The definitions of one script, in order.

    Attributes:
        exactness: of each fast_two_sum that was met, the names of its two operands.
        lost: of each rounding whose rest is dropped, the rest: rounded less exact.
    """

    def __init__(self) -> None:
        self.lines = ["@rnd = float<ieee_64, ne>;"]
        self.exactness: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.rounding = True
        self._count = 0

    def text(self, operand: Operand) -> str:
        return operand.name if isinstance(operand, Symbol) else literal(operand)

    def define(self, expression: str, name: str | None = None) -> Symbol:
        """A name for an exact expression."""
        if name is None:
            self._count += 1
            name = f"{'t' if self.rounding else 'T'}{self._count}"
        self.lines.append(f"{name} = {expression};")
        return Symbol(self, name)

    def rounded(self, expression: str) -> Symbol:
        if not self.rounding:
            return self.define(expression)
        found = self.define(f"rnd({expression})")
        self.lost.append(f"({found.name} - ({expression}))")
        return found

    def free(self, name: str) -> Symbol:
        """A real number of which only the hypotheses say something."""
        return Symbol(self, name)

    def float64(self, name: str) -> Symbol:
        """Any float64 number: Gappa knows it as the rounding of a free one."""
        self.lines.append(f"{name} = rnd({name}_any);")
        return Symbol(self, name)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Symbol:
        return self.rounded(f"{self.text(a)} * {self.text(b)} + {self.text(c)}")

    def _parts(self, expression: str) -> tuple[Symbol, Operand]:
        if not self.rounding:
            return self.define(expression), 0
        high = self.define(f"rnd({expression})")
        return high, self.define(f"({expression}) - {high.name}")

    def two_sum(self, a: Operand, b: Operand) -> tuple[Symbol, Operand]:
        return self._parts(f"{self.text(a)} + {self.text(b)}")

    def fast_two_sum(self, a: Operand, b: Operand) -> tuple[Symbol, Operand]:
        if self.rounding:
            self.exactness.append((self.text(a), self.text(b)))
        return self.two_sum(a, b)

    def two_product(self, a: Operand, b: Operand) -> tuple[Symbol, Operand]:
        return self._parts(f"{self.text(a)} * {self.text(b)}")

    def run(self, function: Any, *arguments: Any, **replaced: Any) -> Any:
        """What a compiled function of the oracle returns for symbols; `replaced` are its globals."""
        plain: FunctionType = getattr(function, "py_func", function)
        ours = {
            "fma": self.fma,
            "two_sum": self.two_sum,
            "fast_two_sum": self.fast_two_sum,
            "two_product": self.two_product,
            **replaced,
        }
        for name in ("dd_times_float", "dd_plus_dd", "dd_times_dd"):
            if name in plain.__globals__ and name not in ours:
                ours[name] = self._inner(plain.__globals__[name])
        traced = FunctionType(plain.__code__, {**plain.__globals__, **ours}, plain.__name__)
        return traced(*arguments)

    def _inner(self, function: Any) -> Callable[..., Any]:
        return lambda *arguments: self.run(function, *arguments)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within it, operators do not round."""
        self.rounding = False
        try:
            yield
        finally:
            self.rounding = True

    def goal(self, hypotheses: Sequence[str], conclusions: Sequence[str], hints: Sequence[str] = ()) -> str:
        """The whole script: all conclusions follow from all hypotheses. What none of them needs is left out.

        Args:
            hints: `expression -> equal expression`, for Gappa to try; it warns of what is no identity.
        """
        needed = set(_NAME.findall(" ".join([*hypotheses, *conclusions, *hints])))
        kept = []
        for line in reversed(self.lines):
            name = line.partition(" ")[0]
            if name in needed or name.startswith("@"):
                needed |= set(_NAME.findall(line))
                kept.append(line)
        body = " ->\n  ".join([*hypotheses, " /\\\n  ".join(conclusions)])
        return "\n".join([*reversed(kept), f"{{ {body} }}", *(f"{hint};" for hint in hints), ""])
