"""An output with its parameters: what every tier of the oracle evaluates, and where its formulas change.

Every output is Σ c_k·b_k(x) on each of three stretches: −1 < x < 0, x ≤ −1 (where e^x − 1 and
e^x − 1 − x are taken apart, see `split_exponentials`) and x > 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpmath.libmp import from_float, mpf_abs, mpf_add, mpf_sub, to_float

from precision_lab.exceptions import UsageError
from precision_lab.formats.ball_rounding import float_above
from precision_lab.functions import Activation
from precision_lab.functions.terms import Term, split_exponentials
from precision_lab.oracle.evaluate import certain_ball

NEAR, FAR, POSITIVE = range(3)
EDGE = 3  # a stretch of edges of a formula alone: their inputs are Arb's, one by one
FAR_BELOW = -1.0

# Slots of a tile's buffers. Slots from TABLE on hold compiled piecewise polynomials.
ONE, X, X2, X3, EXP, EXPM1, Q, TABLE = range(8)
SLOTS = {"one": ONE, "x": X, "x^2": X2, "x^3": X3, "exp": EXP, "expm1": EXPM1, "expm1_minus_x": Q}
VANISHED = 768.0  # e^-768 < 2^-1100, and < 2^-2200 from twice as far: only its sign still counts


@dataclass(frozen=True)
class Curve:
    """One output of an activation at given effective parameters (exact float64 numbers)."""

    function: Activation
    output: str
    params: Mapping[str, float]

    def terms(self, stretch: int) -> tuple[Term, ...]:
        """The sum on one of the three stretches, terms whose coefficient is 0 left out."""
        terms = self.function.terms(self.output, "positive" if stretch == POSITIVE else "negative")
        if stretch == FAR:
            terms = split_exponentials(terms)
        terms = tuple(term for term in terms if term.coefficient.at(self.params))
        if stretch == POSITIVE and any(SLOTS.get(term.basis, X) >= EXP for term in terms):
            raise UsageError(
                f"{self.function.name}.{self.output} contains e^x for x > 0, which the compiled tiers do not "
                "have; write it with functions that grow no faster than a power of x"
            )
        return terms

    def factor(self) -> tuple[float, float, float, int] | None:
        """1 − e^(−t) of a raw-parameter gradient as high, low, radius and nudge, or None.

        From t = 768 on it is 1 and a nudge, as `pieces.enclose` has them: a radius, however small,
        would hide what decides a tie of the rest.
        """
        argument = self.function.raw_factor_argument(self.output, self.params)
        if argument is None:
            return None
        if argument >= VANISHED:
            return 1.0, 0.0, 0.0, -2 if argument >= 2 * VANISHED else -1
        # For large t this is 1 less next to nothing, of which the low part keeps 53 bits.
        ball = certain_ball(lambda m: 1 - m.exp(m.constant(-argument)), 512)
        high = to_float(ball.middle, rnd="n")
        rest = mpf_sub(ball.middle, from_float(high))
        low = to_float(rest, rnd="n")
        cut_off = mpf_add(mpf_abs(mpf_sub(rest, from_float(low))), ball.radius)
        return high, low, float_above(cut_off), 0


__all__ = ["FAR", "NEAR", "POSITIVE", "Curve"]
