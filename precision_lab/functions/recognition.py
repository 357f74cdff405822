"""Formulas that are sums of known basis functions on each side of 0: those have fast tiers of their own.

α_p·x² + β·x for x > 0, α_n·(eˣ − 1 − x) + β·x for x ≤ 0 is such a sum, its coefficients affine in the
parameters. What is written otherwise is not recognised, and takes the general path, to the
same values.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from precision_lab.formula.expression import PI, Expression, X, symbols_of
from precision_lab.formula.rewriting import ZERO, simplified, taken
from precision_lab.formula.vocabulary import atan, erf, exp, expm1, sigmoid, softplus, sqrt, tanh
from precision_lab.functions.basis import BASIS
from precision_lab.functions.terms import UNIT, Affine, Term, collect

Side = tuple[Term, ...]


@lru_cache(maxsize=1)
def _known() -> dict[Expression, str]:
    """Basis functions as they are written, simplified."""
    written = {
        "x": X,
        "x^2": X**2,
        "x^3": X**3,
        "exp": exp(X),
        "expm1": expm1(X),
        "expm1_minus_x": expm1(X) - X,
        "sigmoid": sigmoid(X),
        "tanh": tanh(X),
        "softplus": softplus(X),
        "logsigmoid": -softplus(-X),
        "silu": X * sigmoid(X),
        "mish": X * tanh(softplus(X)),
        "gelu": X * (1 + erf(X / sqrt(2))) / 2,
        "gelu_tanh": X * (1 + tanh(sqrt(2 / PI) * (X + Fraction(44715, 10**6) * X**3))) / 2,
        "atlu": X * (atan(X) / PI + Fraction(1, 2)),
    }
    return {simplified(e): name for name, e in written.items()}


def recognised(expression: Expression) -> tuple[Side, Side] | None:
    """The sums for x ≤ 0 and for x > 0; None where the formula is none."""
    e = simplified(expression)
    if e.kind == "where":
        condition = e.args[0]
        if condition.left is ZERO and condition.right is X and condition.strict:
            above = True  # 0 < x
        elif condition.left is X and condition.right is ZERO and not condition.strict:
            above = False  # x ≤ 0
        else:
            return None
        negative, positive = (_terms(taken(e, {condition: side is above})) for side in (False, True))
    else:
        negative = positive = _terms(e)
    if negative is None or positive is None or not all(BASIS[t.basis].at_plus_infinity for t in positive):
        return None  # nothing of the fast tiers holds for x > 0 of what grows as eˣ
    sides = collect(negative), collect(positive)
    return None if any(map(_cancels, sides)) else sides


def _cancels(side: Side) -> bool:
    """Whether terms cancel next to 0, as x − tanh x, which a table of the whole does not."""
    if len(side) < 2 or any(term.coefficient.weights for term in side):
        return False
    found = [(Fraction(term.coefficient.constant), BASIS[term.basis].at_zero) for term in side]
    if any(at is None for _, at in found):
        return False
    value, slope = (sum(float(c) * float(at[k]) for c, at in found if at) for k in (0, 1))
    return abs(value) < 2.0**-40 and abs(slope) < 2.0**-20


def _terms(e: Expression) -> list[Term] | None:
    if e is ZERO:
        return []
    parts = _split(e)
    return None if parts is None else [Term(c, basis) for c, basis in parts]


Part = tuple[Affine, str]


def _split(e: Expression) -> list[Part] | None:
    """Σ coefficient·basis of an expression without conditions."""
    name = _known().get(e)
    if name is not None:
        return [(UNIT, name)]
    if e.kind == "number":
        return [(Affine(int(e.args[0]) if e.args[0].denominator == 1 else e.args[0]), "one")]
    if e.kind == "symbol":
        return [(Affine(0, ((e.args[0], 1),)), "one")]
    if e.kind == "neg":
        return _times(Affine(-1), _split(e.args[0]))
    if e.kind in ("add", "sub"):
        first, second = _split(e.args[0]), _split(e.args[1])
        if e.kind == "sub":
            second = _times(Affine(-1), second)
        return None if first is None or second is None else [*first, *second]
    if e.kind == "mul":
        return _product(e)
    return None


def _product(e: Expression) -> list[Part] | None:
    """c·b with c affine in the parameters: the factors are put in two groups."""
    factors = list(_factors(e))
    with_x = [f for f in factors if "x" in symbols_of(f)]
    others = [f for f in factors if "x" not in symbols_of(f)]
    coefficient: Affine | None = UNIT
    for factor in others:
        coefficient = _affine_product(coefficient, _affine(factor))
    if coefficient is None:
        return None
    if not with_x:
        return [(coefficient, "one")]
    for known, name in _known().items():
        if (
            known.kind == "mul"
            and set(_factors(known)) == set(with_x)
            and len(list(_factors(known))) == len(with_x)
        ):
            return [(coefficient, name)]
    return _times(coefficient, _split(with_x[0])) if len(with_x) == 1 else None


def _factors(e: Expression) -> Iterable[Expression]:
    if e.kind == "mul":
        yield from _factors(e.args[0])
        yield from _factors(e.args[1])
    else:
        yield e


def _affine(e: Expression) -> Affine | None:
    parts = _split(e)
    if parts is None or any(basis != "one" for _, basis in parts):
        return None
    constant: int | Fraction = 0
    weights: dict[str, int | Fraction] = {}
    for part, _ in parts:
        constant += part.constant
        for name, weight in part.weights:
            weights[name] = weights.get(name, 0) + weight
    return Affine(constant, tuple((name, weight) for name, weight in weights.items() if weight))


def _affine_product(a: Affine | None, b: Affine | None) -> Affine | None:
    if a is None or b is None:
        return None
    if not b.weights:
        return a.scaled(b.constant)
    return b.scaled(a.constant) if not a.weights else None


def _times(c: Affine, parts: list[Part] | None) -> list[Part] | None:
    if parts is None:
        return None
    found = []
    for coefficient, basis in parts:
        product = _affine_product(c, coefficient)
        if product is None:
            return None
        found.append((product, basis))
    return found


__all__ = ["recognised"]
