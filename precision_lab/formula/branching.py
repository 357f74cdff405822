"""The conditions of an expression, and which of them are decided by a comparison of first degree."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from precision_lab.formula.expression import Comparison, Expression, children


@lru_cache(maxsize=4096)
def conditions(e: Expression) -> tuple[Comparison, ...]:
    """Every comparison in an expression, each once, those that others are nested in last."""
    found: dict[Comparison, None] = {}
    seen: set[Expression] = set()

    def visit(part: Expression) -> None:
        if part in seen:
            return
        seen.add(part)
        for child in children(part):
            visit(child)
        if part.kind == "where":
            found[part.args[0]] = None

    visit(e)
    return tuple(found)


def has_branches(e: Expression) -> bool:
    return bool(conditions(e))


def first_condition(e: Expression) -> Comparison | None:
    """One whose sides have no conditions themselves; None where there is none at all."""
    return next((c for c in conditions(e) if not has_branches(c.left) and not has_branches(c.right)), None)


def linear(e: Expression) -> tuple[Fraction, Fraction] | None:
    """(a, b) where the expression is a·x + b with rational numbers; None where it is not written so."""
    if e.kind == "number":
        return Fraction(0), e.args[0]
    if e.kind == "symbol":
        return (Fraction(1), Fraction(0)) if e.args[0] == "x" else None
    parts = [linear(p) for p in children(e)] if e.kind in ("add", "sub", "neg", "mul", "div") else [None]
    if any(p is None for p in parts):
        return None
    (a, b), *rest = [p for p in parts if p is not None]
    if e.kind == "neg":
        return -a, -b
    c, d = rest[0]
    if e.kind == "add":
        return a + c, b + d
    if e.kind == "sub":
        return a - c, b - d
    if e.kind == "mul" and 0 in (a, c):
        return a * d + c * b, b * d
    if e.kind == "div" and c == 0 and d:
        return a / d, b / d
    return None
