"""Sums of basis functions, whose coefficients are affine in the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from precision_lab.exceptions import UsageError
from precision_lab.functions.basis import BASIS


@dataclass(frozen=True)
class Affine:
    """constant + Σ weight·parameter; evaluated exactly, parameters being float64 numbers."""

    constant: int | Fraction = 0
    weights: tuple[tuple[str, int | Fraction], ...] = ()

    def at(self, params: Mapping[str, float]) -> Fraction:
        return Fraction(self.constant) + sum(
            (w * Fraction(params[name]) for name, w in self.weights), Fraction(0)
        )

    def derivative(self, parameter: str) -> int | Fraction:
        return sum(w for name, w in self.weights if name == parameter)

    def scaled(self, factor: int | Fraction) -> Affine:
        return Affine(self.constant * factor, tuple((name, w * factor) for name, w in self.weights))


UNIT = Affine(1)


@dataclass(frozen=True)
class Term:
    coefficient: Affine
    basis: str


def derivative_of(basis: str) -> tuple[tuple[int, str], ...]:
    derivative = BASIS[basis].derivative
    if derivative is None:
        raise UsageError(f"basis function {basis!r} declares no derivative; add it in functions/basis.py")
    return derivative


def collect(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms with equal basis functions merged, zero coefficients dropped."""
    merged: dict[str, Affine] = {}
    for term in terms:
        old = merged.get(term.basis, Affine())
        weights = dict(old.weights)
        for name, weight in term.coefficient.weights:
            weights[name] = weights.get(name, 0) + weight
        merged[term.basis] = Affine(
            old.constant + term.coefficient.constant,
            tuple((name, weight) for name, weight in weights.items() if weight),
        )
    return tuple(Term(c, basis) for basis, c in merged.items() if c.constant or c.weights)


def split_exponentials(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The same sum with eˣ − 1 − x and eˣ − 1 taken apart, for x well below 0.

    There (β−α)·x + … with an exactly computed β−α cancels nothing, where
    α·(eˣ−1−x) + β·x would, and β − α + α·eˣ shows that only α·eˣ is left for α = β.
    """
    parts: list[Term] = []
    for term in terms:
        if term.basis in ("expm1", "expm1_minus_x"):
            parts += [Term(term.coefficient, "exp"), Term(term.coefficient.scaled(-1), "one")]
            if term.basis == "expm1_minus_x":
                parts.append(Term(term.coefficient.scaled(-1), "x"))
        else:
            parts.append(term)
    return collect(parts)
