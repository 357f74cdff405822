"""What `horner_bound` and `_horner_dd` of `oracle.piecewise_compiler` claim, as scripts for Gappa.

Coefficients are any float64 numbers up to given sizes, |u| ≤ 1. Sizes are those of rows of compiled tables,
or `PROFILES`. The recurrences neglect products of two errors, for which the compiler's SLACK stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from double_double_claims import PLUS, TIMES_FLOAT
from proof_trace import Script, Symbol, at_most, within

from precision_lab.numeric.error_free import U
from precision_lab.oracle import piecewise_compiler as compiler
from precision_lab.oracle import piecewise_values as values

UNDERFLOW = 2.0**-1000  # what first-tier sums are charged

# Made-up sizes: all alike, falling as those of a well-cut piece do, and falling with a jump.
PROFILES = {
    "level": lambda k: 1.0,
    "falling": lambda k: 2.0 ** (-5 * k),
    "just below powers of two": lambda k: (2 - 2.0**-52) * 2.0 ** (-3 * k),
    "small first": lambda k: 2.0**-40 if k == 0 else 2.0**-k,
}


def _coefficients(script: Script, name: str, sizes: Sequence[float]) -> tuple[list[Symbol], list[str]]:
    symbols = [script.float64(f"{name}{k}") for k in range(len(sizes))]
    return symbols, [within(s.name, -b, b) for s, b in zip(symbols, sizes, strict=True)]


def single(sizes: Sequence[float], bound: float | None = None) -> str:
    """`horner`, 12 coefficients: it errs by what `horner_bound` says at most."""
    if bound is None:
        bound = compiler.horner_bound(list(sizes)) * compiler.SLACK
    script = Script()
    u = script.float64("u")
    row, given = _coefficients(script, "b", sizes)
    with script.exact():
        exact = script.run(values.horner, row, u)
    found = script.run(values.horner, row, u)
    goal = at_most(f"{found.name} - {exact.name}", Fraction(bound) + Fraction(UNDERFLOW))
    return script.goal([within("u", -1, 1), *given], [goal])


class _Steps:
    """dd·float and dd + dd as `double_double_claims` bounds them: h·u + d·(h·u), c + p + e·(|c| + |p|).

    A pair is an exact number and 0 here.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.values: list[str] = []
        self.errors: list[str] = []  # of each step, what it adds to its exact result
        self.given: list[str] = []

    def _step(self, exact: str, of: str, kind: str, bound: Fraction) -> tuple[Symbol, int]:
        found = exact
        if self.script.rounding:
            name = f"{kind}{len(self.given)}"
            self.given.append(at_most(name, bound))
            self.errors.append(f"{name} * {of}")
            found = f"{exact} + {self.errors[-1]}"
        symbol = self.script.define(found)
        self.values.append(symbol.name)
        return symbol, 0

    def times(self, high: Symbol, low: Any, b: Symbol) -> tuple[Symbol, int]:
        if not self.values:  # what the float64 steps have left
            self.values.append(high.name)
        product = f"({high.name} * {b.name})"
        return self._step(product, product, "d", TIMES_FLOAT)

    def plus(self, c: Symbol, c_low: Symbol, p: Symbol, p_low: Any) -> tuple[Symbol, int]:
        term = f"({c.name} + {c_low.name})"
        return self._step(f"({term} + {p.name})", f"(|{term}| + |{p.name}|)", "e", PLUS)


def double(sizes: Sequence[float], bound: float | None = None) -> str:
    """`horner_dd`, 22 coefficients of which 13 have low parts: it errs by what `_horner_dd` says at most.

    The steps in double-double arithmetic are taken as `double_double_claims` bounds them; what underflow adds
    is no part of that.
    """
    if bound is None:
        bound = compiler._horner_dd(list(sizes)) * compiler.SLACK
    script = Script()
    u = script.float64("u")
    row, given = _coefficients(script, "b", sizes)
    lows, small = _coefficients(script, "c", [b * U for b in sizes[: compiler.LOWS]])
    with script.exact():
        true = _Steps(script)
        exact, _ = script.run(values.horner_dd, row, lows, u, dd_times_float=true.times, dd_plus_dd=true.plus)
    steps = _Steps(script)
    found, _ = script.run(values.horner_dd, row, lows, u, dd_times_float=steps.times, dd_plus_dd=steps.plus)
    hints = []
    for k, error in enumerate(steps.errors):
        before = f"({steps.values[k]} - {true.values[k]})"
        carried = f"{before} * u" if k % 2 == 0 else before
        hints.append(f"{steps.values[k + 1]} - {true.values[k + 1]} -> {carried} + {error}")
    return script.goal(
        [within("u", -1, 1), *given, *small, *steps.given],
        [at_most(f"{found.name} - {exact.name}", bound)],
        hints,
    )
