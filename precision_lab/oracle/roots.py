"""Roots, extrema, edges and monotone pieces of a formula, isolated with Arb.

An interval of x is dropped where the ball of f over it excludes 0. Where the ball of f′ excludes 0 instead, f
is monotone there, and the signs at its ends say whether it has exactly one root. Else it is halved: Newton's
interval test without the step, whose convergence nobody needs for intervals that end at 2^-40 of their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
from flint import arb

from precision_lab.exceptions import UndecidedError
from precision_lab.formula.branching import conditions, linear
from precision_lab.formula.derivatives import derivative
from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import sub
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.arb_program import Loop, loop
from precision_lab.oracle.branches import pieces, sign_between

BITS = 128
NEAREST, FARTHEST = 2.0**-24, 2.0**12  # where roots and edges are looked for
MOST = 32  # that are named; of functions that go on and on, the nearest to 0
_PARTS = 8  # intervals of a binade to begin with
_SMALLEST = 2.0**-40  # of an interval's size, relative
_WORK = 20_000  # intervals that are looked at


@dataclass(frozen=True)
class Found:
    """What was isolated, ascending.

    Attributes:
        roots: with a change of sign, as nearest float64 numbers.
        complete: every root between `NEAREST` and `FARTHEST` is among them, proven.
    """

    roots: tuple[float, ...]
    complete: bool


def edges(e: Expression) -> tuple[float, ...]:
    """Where conditions of an expression in x alone change, other than 0, as nearest float64 numbers.

    Of conditions that are not of first degree, as `roots` finds them: no bound may rest on there being no
    others.
    """
    return _edges(e).roots


@lru_cache(maxsize=512)
def _edges(e: Expression) -> Found:
    found: set[float] = set()
    complete = True
    for condition in conditions(e):
        difference = sub(condition.left, condition.right)
        line = linear(difference)
        if line is not None:
            if line[0]:
                found.add(float(-line[1] / line[0]))
        else:
            own = roots(difference)
            found |= set(own.roots)
            complete &= own.complete
    return Found(tuple(sorted(found - {0.0})), complete)


@lru_cache(maxsize=512)
def roots(e: Expression) -> Found:
    """Of an expression in x alone; a jump across 0 at an edge counts as one."""
    around = [x for x in edges(e) if abs(x) <= FARTHEST]
    cuts = sorted({-FARTHEST, -NEAREST, NEAREST, FARTHEST, *around})
    found: list[float] = []
    complete = _edges(e).complete
    for low, high in pairwise(cuts):
        if low == -NEAREST and high == NEAREST:
            continue
        middle = (low + high) / 2
        try:
            ((piece, _),) = pieces(e, np.array([middle]))
        except UndecidedError:
            return Found((), False)
        inside, whole = _isolated(piece, low, high)
        found += inside
        complete &= whole
    found += _jumps(e, around)
    nearest = sorted(set(found), key=abs)
    return Found(tuple(sorted(nearest[:MOST])), complete and len(nearest) <= MOST)


def _jumps(e: Expression, around: list[float]) -> list[float]:
    """Edges at which the sign changes, or at which f is 0 between two signs."""
    found = []
    for x in around:
        beside = [_sign(e, math.nextafter(x, side * math.inf)) for side in (-1, 1)]
        if beside[0] * beside[1] < 0:
            found.append(x)
    return found


def _sign(e: Expression, x: float) -> int:
    try:
        ((piece, _),) = pieces(e, np.array([x]))
    except UndecidedError:
        return 0
    return _side(loop(piece)([x], BITS)[0])


def _side(ball: arb) -> int:
    return 1 if ball > 0 else -1 if ball < 0 else 0


def _isolated(e: Expression, low: float, high: float) -> tuple[list[float], bool]:
    """Roots strictly between two numbers where e has no conditions, and whether there are no others."""
    if e.kind == "number":
        return [], True
    f, slope = loop(e), loop(derivative(e, "x"))
    work = _binades(low, high)
    first_look = len(work)  # where a germ is asked, too: it sees the sign of eᵘ·(1 + u)
    found: list[float] = []
    complete, looked = True, 0
    while work:
        looked += len(work)
        if looked > _WORK:
            return found, False
        with working_precision(BITS):
            balls = [arb(a).union(arb(b)) for a, b in work]
        values = f(balls, BITS)
        open_ = [
            (place, ball)
            for place, ball, y in zip(work, balls, values, strict=True)
            if not (
                y > 0
                or y < 0
                or (looked <= first_look and sign_between(e, Fraction(place[0]), Fraction(place[1])))
            )
        ]
        work = []
        slopes = slope([ball for _, ball in open_], BITS)
        for ((a, b), _), g in zip(open_, slopes, strict=True):
            first, last = (_side(y) for y in f([a, b], BITS))
            if g > 0 or g < 0:
                if first * last < 0:
                    found.append(_bisected(f, a, b, first))
                elif not first * last and a not in (low, high) and b not in (low, high):
                    found.append(a if not first else b)
            elif (b - a) > _SMALLEST * max(abs(a), abs(b)):
                middle = (a + b) / 2
                work += [(a, middle), (middle, b)]
            elif first * last < 0:
                found.append(_bisected(f, a, b, first))
                complete = False
            else:
                complete = False
        if len(found) > 4 * MOST:
            return found, False
    return found, complete


def _binades(low: float, high: float) -> list[tuple[float, float]]:
    """An interval of one sign, or across 0, in parts of binades."""
    if low < 0 < high:
        return [*_binades(low, -NEAREST), (-NEAREST, 0.0), (0.0, NEAREST), *_binades(NEAREST, high)]
    if low < 0:
        return [(-b, -a) for a, b in reversed(_binades(-high, -low))]
    cuts = [low]
    e = math.frexp(max(low, NEAREST))[1] - 1
    while (2.0**e) < high:
        cuts += [2.0**e * (1 + k / _PARTS) for k in range(_PARTS)]
        e += 1
    inside = sorted({c for c in cuts if low <= c < high} | {high})
    return list(pairwise(inside))


def _bisected(f: Loop, a: float, b: float, first: int) -> float:
    """The root between two numbers with other signs, as a float64 number next to it."""
    for _ in range(80):
        middle = (a + b) / 2
        if middle in (a, b):
            break
        sign = _side(f([middle], BITS)[0])
        if sign == 0:
            return middle
        if sign == first:
            a = middle
        else:
            b = middle
    return a if abs(a) < abs(b) else b


def reaches(e: Expression, level: float) -> tuple[float, ...]:
    """|f| = level for large x: where a result overflows; found at powers of two and bisected."""
    found = []
    for sign in (-1.0, 1.0):
        points = [sign * 2.0**k for k in range(-20, 128, 4)]
        sizes = [_beyond(e, x, level) for x in points]
        for a, b, first, last in zip(points, points[1:], sizes, sizes[1:], strict=False):
            if first is not None and last is not None and first != last:
                for _ in range(60):
                    middle = (a + b) / 2
                    if _beyond(e, middle, level) == first:
                        a = middle
                    else:
                        b = middle
                found.append(b)
    return tuple(found)


def _beyond(e: Expression, x: float, level: float) -> bool | None:
    try:
        ((piece, _),) = pieces(e, np.array([x]))
    except UndecidedError:
        return None
    ball = abs(loop(piece)([x], BITS)[0])
    return True if ball > level else False if ball < level else None


def monotone_pieces(e: Expression) -> tuple[tuple[float, float, int], ...]:
    """(from, to, 1 or -1) of every stretch on which f grows or falls, between its turns and edges.

    Between `NEAREST` and `FARTHEST` in size, where the isolation is complete: nothing is claimed of a stretch
    with a turn that was missed.
    """
    slope = derivative(e, "x")
    turns = roots(slope)
    if not turns.complete or not _edges(e).complete:
        return ()
    cuts = sorted({-FARTHEST, -NEAREST, NEAREST, FARTHEST, *turns.roots, *edges(e)})
    found = []
    for low, high in pairwise(cuts):
        inside = low >= -FARTHEST and high <= FARTHEST and not (low >= -NEAREST and high <= NEAREST)
        if inside and (side := _sign(slope, (low + high) / 2)):
            found.append((low, high, side))
    return tuple(found)


__all__ = ["Found", "edges", "monotone_pieces", "reaches", "roots"]
