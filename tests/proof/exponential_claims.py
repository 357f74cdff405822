"""What `oracle.exponential` claims of e^x and of e^x − 1 − x in float64, as scripts for Gappa.

The hypotheses about the real functions, which Gappa does not know, are `facts`: statements that a test
checks with Arb.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from proof_trace import Script, Symbol, at_most, dyadic, literal, within

from precision_lab.oracle import exponential as code

NUMPY = SimpleNamespace(float64=lambda value: value)
# |computed r − (x − k·ln 2)|: two roundings of numbers below 1/2, and what LN2_REST leaves of k·ln 2. This
# module's own, not the code's: only EXP_RELATIVE below is claimed.
SHIFT = Fraction(2) ** -54 + 1011 * Fraction(code.LN2_REST)
# e^d − 1 for |d| ≤ SHIFT.
STRETCH = SHIFT * (1 + Fraction(2) ** -50)
# Bounds of e^r for |r| ≤ REDUCED.
EXP_LOW, EXP_HIGH = Fraction(723, 1024), Fraction(1449, 1024)
FAR_REST = Fraction(1.03) * Fraction(code.REDUCED) ** 12 / math.factorial(14)
NEAR_REST = Fraction(1, math.factorial(19))
# (e^x − 1 − x)/x² at −1, its least value on [−1, 0]; what e^x − 1 − x is of e^x − 1 at most, also at −1. The
# code writes 0.583, which leaves room for the product of the two errors.
NEAR_LOW = Fraction(math.exp(-1) * (1 - 2.0**-50))
SHARE = Fraction(0.582)


class _Power:
    """2^k: scaling by it is exact, since 2^-1011 < 2^k·e^r is a normal number; see `reduction`."""

    def __mul__(self, other: Symbol) -> Symbol:
        return other


def _exp(script: Script, x: Symbol, coefficients: Sequence[Any], r: Symbol | None = None) -> list[Symbol]:
    """The fused steps of `exp_tile`, then k, then e^x/2^k; with `r`, that in place of the third step."""
    steps: list[Symbol] = []

    def fma(*operands: Any) -> Symbol:
        step = script.fma(*operands)
        steps.append(r if len(steps) == 2 and r is not None else step)
        return steps[-1]

    def whole(k: Symbol) -> int:
        steps.append(k)
        return 0

    out: list[Any] = [None]
    script.run(
        code.exp_tile, [x], 1, out, _C=coefficients, fma=fma, np=NUMPY, max=lambda a, floor: a, int=whole,
        bits_to_float=lambda bits: _Power(),
    )  # fmt: skip
    return [*steps, out[0]]


def reduction(reduced: float = code.REDUCED, low: float = code.LN2_LOW) -> str:
    """For −700 ≤ x ≤ 0: k is an integer, |k| ≤ 1010, |r| ≤ REDUCED and r is x − k·ln 2 up to SHIFT."""
    script = Script()
    x, ln2 = script.float64("x"), script.free("ln2")
    *steps, k, _ = _exp(script, x, code._C)
    shifted, r = steps[0], steps[2]
    high, inverse, rounder = (literal(v) for v in (code.LN2_HIGH, code.INVERSE_LN2, code.ROUNDER))
    ln2_low = literal(low)
    return script.goal(
        [within("x", code.EXP_FLOOR, 0), at_most(f"{ln2.name} - ({high} + {ln2_low})", code.LN2_REST)],
        [
            at_most(k.name, 1010),
            f"@FIX({k.name}, 0)",
            at_most(r.name, reduced),
            at_most(f"{r.name} - (x - {k.name} * ln2)", SHIFT),
        ],
        [
            f"{k.name} - x * {inverse} -> ({k.name} - ({shifted.name} - {rounder}))"
            f" + ({shifted.name} - (x * {inverse} + {rounder}))",
            f"(-{k.name}) * {high} + x -> ({k.name} - x * {inverse}) * (-1 / {inverse})"
            f" + {k.name} * (1 / {inverse} - {high})",
            f"{r.name} - (x - {k.name} * ln2) -> "
            f"({r.name} - ((-{k.name}) * {ln2_low} + ((-{k.name}) * {high} + x)))"
            f" + {k.name} * (ln2 - ({high} + {ln2_low}))",
        ],
    )


def exp_value(bound: float = code.EXP_RELATIVE, coefficients: Sequence[float] = code._C) -> str:
    """For |r| ≤ REDUCED, r within SHIFT of x − k·ln 2: the result is e^x up to EXP_RELATIVE.

    E is e^(x − k·ln 2), e_r is e^r of the computed r. The code computes e_r/2^k·2^k by `coefficients`.
    """
    script = Script()
    r = script.float64("r")
    exact = [Fraction(1, math.factorial(k)) for k in range(2, 2 + len(coefficients))]
    with script.exact():
        series = _exp(script, r, exact, r)[-1]
    result = _exp(script, r, coefficients, r)[-1]
    return script.goal(
        [
            at_most("r", code.REDUCED),
            within("E", EXP_LOW, EXP_HIGH),
            at_most(f"e_r - {series.name}", dyadic(FAR_REST * Fraction(code.REDUCED) ** 2, up=True)),
            at_most("(e_r - E) / E", dyadic(STRETCH, up=True)),
        ],
        [at_most(f"({result.name} - E) / E", bound)],
        [
            f"({result.name} - E) / E -> ({result.name} - {series.name}) / E + ({series.name} - e_r) / E"
            " + (e_r - E) / E { E <> 0 }"
        ],
    )


def _q(script: Script, x: Symbol, coefficients: Sequence[Any]) -> tuple[Symbol, Symbol]:
    """The last step of `q_tile`'s Horner sum and its result."""
    steps: list[Symbol] = []

    def fma(*operands: Any) -> Symbol:
        steps.append(script.fma(*operands))
        return steps[-1]

    out: list[Any] = [None]
    script.run(code.q_tile, [x], 1, out, _D=coefficients, fma=fma, np=NUMPY)
    return steps[-1], out[0]


def _q_script(coefficients: Sequence[float]) -> tuple[Script, Symbol, list[str], list[str]]:
    script = Script()
    x = script.float64("x")
    exact = [Fraction(1, math.factorial(k)) for k in range(2, 2 + len(coefficients))]
    with script.exact():
        series, _ = _q(script, x, exact)
    sum_, result = _q(script, x, coefficients)
    given = [
        within("x", -1, -(2.0**-440)),
        within("P", NEAR_LOW, 0.5),
        at_most(f"P - {series.name}", dyadic(NEAR_REST, up=True)),
    ]
    hints = [f"{sum_.name} ~ {series.name}", f"{series.name} ~ P"]
    return script, result, given, hints


def q_value(bound: float = code.Q_RELATIVE, coefficients: Sequence[float] = code._D) -> str:
    """For −1 ≤ x ≤ −2^-440: the result is x²·P up to Q_RELATIVE, P = (e^x − 1 − x)/x²."""
    script, result, given, hints = _q_script(coefficients)
    return script.goal(given, [at_most(f"{result.name} -/ (x * x * P)", bound)], hints)


def expm1_value(bound: float = code.EXPM1_RELATIVE, q: float = code.Q_RELATIVE) -> str:
    """fl(x + computed q) is e^x − 1 = x + x²·P up to EXPM1_RELATIVE, of which q is `share`, −SHARE at most.

    As `scoring.first_tier` adds them.
    """
    script = Script()
    script.float64("x")
    script.float64("computed")
    total = script.rounded("x + computed").name
    return script.goal(
        [
            within("x", -1, -(2.0**-440)),
            within("P", NEAR_LOW, 0.5),
            at_most("(computed - x * x * P) / (x * x * P)", q),
            at_most("(x * x * P) / (x + x * x * P)", SHARE),
        ],
        [at_most(f"({total} - (x + x * x * P)) / (x + x * x * P)", bound)],
        [
            "x + x * x * P -> x * (1 + x * P)",
            "((x + computed) - (x + x * x * P)) / (x + x * x * P) -> ((computed - x * x * P) / (x * x * P))"
            " * ((x * x * P) / (x + x * x * P)) { x * x * P <> 0, x + x * x * P <> 0 }",
        ],
    )


CLAIMS = {"reduction": reduction, "exp": exp_value, "q": q_value, "expm1": expm1_value}
