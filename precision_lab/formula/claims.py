"""What `piecewise` is told, that one condition holds for every x or those that hold agree, and its check.

At the edges of the conditions, beside them, between them, and at points of every size: no proof, but what
finds an edge that was given to both sides, or to none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from precision_lab.exceptions import UsageError
from precision_lab.formula.branching import linear
from precision_lab.formula.expression import Comparison, Condition, Expression, symbols_of
from precision_lab.formula.plain_values import plain_value
from precision_lab.formula.rewriting import bound, holds, sub
from precision_lab.formula.writing import text

SAME = 1e-40  # relative: what 60 digits agree to
BESIDE = Fraction(1, 2**40)
SIZES = tuple(
    sign * Fraction(8 + part, 8) * Fraction(2) ** e
    for sign in (-1, 1)
    for e in range(-8, 8)
    for part in (0, 3, 5)
)


@dataclass(frozen=True)
class Claim:
    """Conditions and values of one `piecewise`.

    Attributes:
        otherwise: the value where no condition holds; None: there is no such x.
    """

    pieces: tuple[tuple[Comparison, Expression], ...]
    otherwise: Expression | None

    def check(self, name: str, values: Mapping[str, Fraction]) -> None:
        """
        Args:
            name: of the function, for the error.
            values: of parameters and operands.

        Raises:
            ValueError: no condition holds somewhere, or two with different values.
        """
        said = "".join(f", {key}={float(value)!r}" for key, value in values.items() if key in self._symbols)
        for x in sorted(self._points(values)):
            at = {**values, "x": x}
            truths = [_holds(condition, at) for condition, _ in self.pieces]
            if None in truths:
                continue
            holding = [value for (_, value), truth in zip(self.pieces, truths, strict=True) if truth]
            if not holding and self.otherwise is None:
                raise UsageError(
                    f"{name}: piecewise has no value at x={float(x)!r}{said}: no condition holds there"
                )
            found = {bound(value, at) for value in holding}
            if len(found) > 1 and _differ(found):
                words = " and ".join(sorted(text(v) for v in found))
                raise UsageError(
                    f"{name}: piecewise disagrees with itself at x={float(x)!r}{said}: two conditions hold, "
                    f"with the values {words}"
                )

    @property
    def _symbols(self) -> frozenset[str]:
        return frozenset[str]().union(
            *(symbols_of(side) for c, _ in self.pieces for a in _atoms(c) for side in (a.left, a.right))
        )

    def _points(self, values: Mapping[str, Fraction]) -> set[Fraction]:
        edges = {Fraction(0)}
        for condition, _ in self.pieces:
            for part in _atoms(condition):
                found = linear(bound(sub(part.left, part.right), values))
                if found is not None and found[0]:
                    edges.add(-found[1] / found[0])
        ordered = sorted(edges)
        between = {(a + b) / 2 for a, b in pairwise(ordered)}
        beside = {e + s for e in edges for s in (-BESIDE, BESIDE)}
        return edges | between | beside | set(SIZES) | {ordered[0] - 2, ordered[-1] + 2}


def _differ(values: set[Expression]) -> bool:
    """Whether numbers are not all one."""
    first, *others = (plain_value(v, {}) for v in values)
    return any(abs(first - other) > SAME * abs(first) for other in others)


def _atoms(condition: Comparison) -> list[Comparison]:
    if isinstance(condition, Condition):
        return [*_atoms(condition.parts[0]), *_atoms(condition.parts[1])]
    return [condition]


def _holds(condition: Comparison, at: Mapping[str, Fraction]) -> bool | None:
    """Whether a condition holds at numbers; None where 60 digits do not say."""
    if isinstance(condition, Condition):
        first, second = (_holds(part, at) for part in condition.parts)
        either = condition.how == "or"
        if either in (first, second):
            return either
        return None if None in (first, second) else not either
    left, right = (bound(part, at) for part in (condition.left, condition.right))
    if left.kind == right.kind == "number":
        return holds(Comparison(left, right, condition.strict))
    a, b = plain_value(left, {}), plain_value(right, {})
    if abs(a - b) <= SAME * (abs(a) + abs(b)):
        return None
    return bool(a < b)


_MADE: ContextVar[list[Claim]] = ContextVar("claims")


@contextmanager
def claims() -> Iterator[list[Claim]]:
    """What `piecewise` is told inside the block."""
    told: list[Claim] = []
    token = _MADE.set(told)
    try:
        yield told
    finally:
        _MADE.reset(token)


def made(claim: Claim) -> None:
    """Notes a claim for the block that asks for them."""
    if (told := _MADE.get(None)) is not None:
        told.append(claim)


__all__ = ["Claim", "claims", "made"]
