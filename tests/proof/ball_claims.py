"""What `ball_add` and `ball_times` claim of their radii, as scripts for Gappa.

A radius is a sum of nonnegative terms, of which every rounding takes a factor 1 − u at most. So it is at
least Σ weight·term, a term's weight being the product of the factors on its way: these functions, run on
`Sum`s, say which. Gappa proves that no weight is below what the term has to be charged with.

Underflow is apart: below 2^-1022 sums are exact, and a product loses half a step of 2^-1074. `ball_times` has
nine products that may, and adds 64 steps; that it adds them wherever one can is derived by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from types import FunctionType
from typing import Any

from proof_trace import Script, at_most, literal, within

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.numeric.error_free import U
from precision_lab.oracle import double_double as code

HALF_STEP = Fraction(SMALLEST) / 2
NORMAL = 2.0**-1022


@dataclass(frozen=True)
class Weight:
    """Constants and roundings that a term has passed."""

    factor: Fraction = Fraction(1)
    roundings: int = 0


class Sum:
    """A computed sum of nonnegative terms: at least Σ factor·(1 − u)^roundings·term."""

    def __init__(self, terms: dict[str, Weight], computed: bool = True) -> None:
        self.terms, self.computed = terms, computed

    def rounded(self, factor: float = 1.0) -> dict[str, Weight]:
        return {n: Weight(w.factor * Fraction(factor), w.roundings + 1) for n, w in self.terms.items()}

    def __add__(self, other: Sum | float) -> Sum:
        return Sum({**self.rounded(), **(other.rounded() if isinstance(other, Sum) else {})})

    def __mul__(self, other: Sum | float) -> Sum:
        if isinstance(other, Sum):
            ((a, v),), ((b, w),) = self.terms.items(), other.terms.items()
            return Sum({f"{a}·{b}": Weight(v.factor * w.factor, v.roundings + w.roundings + 1)})
        if not self.computed and other >= 1:
            return self  # the rounding of c·r is not below r, be it subnormal
        return Sum(self.rounded(other))

    __rmul__ = __mul__

    # Of every branch the longer way: what it adds is not needed, and takes one more rounding.
    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Float(Sum):
    """A float64 number with a sign."""

    def __init__(self, name: str, roundings: int = 0) -> None:
        super().__init__({name: Weight(roundings=roundings)})
        self.name, self.roundings = name, roundings

    def __abs__(self) -> Sum:
        return Sum({self.name: Weight(roundings=self.roundings)}, computed=bool(self.roundings))

    def __mul__(self, other: Any) -> Any:
        return Float(f"{self.name}·{other.name}", 1)


def _radius(function: Any, slack: float) -> Sum:
    """The radius that a function returns; its exact transformations are numbered in their order."""
    count = 0

    def exact(a: Float, b: Float) -> tuple[Float, Float]:
        nonlocal count
        count += 1
        return Float(f"high {count}"), Float(f"low {count}")

    plain = function.py_func
    ours = {**plain.__globals__, "two_sum": exact, "two_product": exact, "SLACK": slack}
    numbers = [Float("ah"), Float("al"), _ball("ar"), Float("bh"), Float("bl"), _ball("br")]
    *_, radius = FunctionType(plain.__code__, ours)(*numbers)
    assert isinstance(radius, Sum)
    return radius


def _ball(name: str) -> Sum:
    return Sum({name: Weight()}, computed=False)


# What each radius must hold, by what the functions drop of a + b and of a·b: the exact transformations are
# numbered as they stand there. |A|·r_b is |ah + al|·r_b, of which al is u at most.
CHARGED = {
    "ball_add": {"ar": 1, "br": 1, "low 3": 1, "low 5": 1},
    "ball_times": {
        **dict.fromkeys(("low 2", "low 3", "low 4", "low 5", "al·bl", "ar·br"), 1),
        "ah·br": 1 + Fraction(U),
        "bh·ar": 1 + Fraction(U),
    },
}


def weights(name: str, slack: float = code.SLACK) -> str:
    """Every term's weight in the radius of `ball_add` or `ball_times` is at least what it is `CHARGED`."""
    radius = _radius(getattr(code, name), slack)
    script = Script()
    goals = []
    for term, least in CHARGED[name].items():
        weight = radius.terms[term]
        product = " * ".join([literal(weight.factor), *["(1 + d)"] * weight.roundings])
        goals.append(f"{product} - {literal(least)} >= 0")
    return script.goal([at_most("d", U)], goals)


def sum_rounds() -> str:
    """A sum of nonnegative float64 numbers loses a factor 1 − u at most where it is normal."""
    script = Script()
    a, b = script.float64("a"), script.float64("b")
    total = a + b
    return script.goal(
        [within("a", 0, 2.0**1000), within("b", 0, 2.0**1000), within("a + b", NORMAL, 2.0**1000)],
        [at_most(f"{total.name} -/ (a + b)", U)],
    )


def small_sum_is_exact() -> str:
    """A sum of nonnegative float64 numbers below 2^-1022 is one."""
    script = Script()
    a, b = script.float64("a"), script.float64("b")
    total = a + b
    return script.goal(
        [within("a", 0, NORMAL), within("b", 0, NORMAL), within("a + b", 0, NORMAL)],
        [f"{total.name} = a + b"],
    )


def small_product_loses_half_a_step(lost: Fraction = HALF_STEP) -> str:
    """two_product of |a·b| ≤ 2^-968: what p + e misses. Above, it is exact (Dekker)."""
    script = Script()
    p = script.rounded("a * b")
    e = script.rounded(f"a * b - {p.name}")
    missed = f"({p.name} + {e.name}) - a * b"
    return script.goal(
        [at_most("a * b", 2.0**-968)], [at_most(missed, lost)], [f"{missed} -> {e.name} - (a * b - {p.name})"]
    )


CLAIMS = {
    **{f"weights of {name}": (lambda name=name: weights(name)) for name in CHARGED},
    "a sum rounds": sum_rounds,
    "a small sum is exact": small_sum_is_exact,
    "a small product loses half a step": small_product_loses_half_a_step,
}
