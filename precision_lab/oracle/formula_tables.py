"""Compiles a formula at given parameters into piecewise polynomials with proven errors.

One side of an output is one table over every fp32 number of that sign. Where an edge of the formula lies in a
piece, or where no polynomial of the degree is good enough, as of sin at 1e30, the piece's bound is infinite:
what lies there is left to Arb, input by input, and `hopeless` says how many that are.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import numpy as np
from flint import arb, arb_series

from precision_lab.formula.derivatives import derivative
from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import ZERO
from precision_lab.formula.writing import key
from precision_lab.numeric.error_free import U
from precision_lab.oracle import arb_series as arb_module
from precision_lab.oracle import formula_series as series_module
from precision_lab.oracle import piecewise_compiler as compiler
from precision_lab.oracle.blocks import shape
from precision_lab.oracle.branches import pieces
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.piecewise_compiler import (
    CENTRAL,
    DEGREE,
    FLOOR,
    FP32_END,
    MAX_SPLIT,
    PRECISION,
    TARGET,
    Piece,
    Table,
    horner_bound,
    upper,
)
from precision_lab.oracle.piecewise_tables import packed, unpacked
from precision_lab.oracle.roots import edges
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked
from precision_lab.system.ieee import require

VERSION = 1
EDGE_SPLIT = 8  # of a binade with an edge inside: the piece that the edge spoils is a 256th of it
MAX_BITS = 1024
VISIBLE = 2.0**-36  # relative: what fp32 can see of a rest, and 2^-12 of that
_NO_PIECE = Piece([0.0] * (DEGREE + 1), [], math.inf, (math.inf, 0.0, 0.0), 0.0)


@dataclass(frozen=True)
class _Side:
    """An output for one sign of x.

    Attributes:
        edges: sizes of x at which conditions change, ascending.
    """

    e: Expression
    sign: int
    edges: tuple[float, ...]

    def branch(self, size: float) -> Expression:
        """The expression without conditions that holds at sign·size."""
        ((piece, _),) = pieces(self.e, np.array([self.sign * size]))
        return piece

    def coefficients(self, size: Any, at: float, terms: int) -> list[arb]:
        """Taylor coefficients in |x| around a number or a ball, of the branch that holds at a number."""
        x = arb_series([arb(size) * self.sign, arb(self.sign)])
        try:
            found = series_module.series(self.branch(at), x)
        except (ValueError, ZeroDivisionError):  # a pole in the ball: no series
            return [arb.nan()] * terms
        return [found[k] for k in range(terms)]


def _piece(side: _Side, centre: float, half: float, precision: int) -> Piece:
    """As `piecewise_compiler._piece` of the first tier, with Arb's precision doubled while it matters."""
    if any(centre - half < edge < centre + half for edge in side.edges):
        return _NO_PIECE
    while True:
        with arb_module.settings(precision, DEGREE + 2):
            width, scale = arb(half), arb(1)
            high, apart = [], 0.0
            for a in side.coefficients(centre, centre, DEGREE + 1):
                b = a * scale
                scale = scale * width
                if not b.is_finite():
                    return _NO_PIECE
                h = _float(b)
                apart += 0.0 if b.is_zero() else upper(b - arb(h))
                high.append(h)
        sizes = [abs(h) * (1 + 2.0**-50) for h in high]
        size = max(sizes[0], sizes[1])
        if apart <= max(TARGET * size, FLOOR) / 4 or precision >= MAX_BITS:
            break
        precision *= 2
    rounding = horner_bound(sizes)
    with arb_module.settings(precision, DEGREE + 2):
        whole = side.coefficients(arb(centre, half), centre, DEGREE + 2)[DEGREE + 1]
        left_out = upper(whole * arb(half) ** (DEGREE + 1)) if whole.is_finite() else math.inf
        if whole.is_zero():
            left_out = 0.0
    if not any(sizes[1:]) and not left_out and not apart:
        return Piece(
            high, [], 0.0, (0.0, 0.0, 0.0), size
        )  # a constant, exactly: no step of Horner's rule rounds
    bound = (left_out + apart + rounding) * compiler.SLACK + 2.0**-1074
    if not bound < math.inf or not all(map(math.isfinite, high)):
        return _NO_PIECE
    return Piece(high, [], bound, (left_out, apart, rounding), size, precision)


def _float(ball: arb) -> float:
    try:
        return float(ball.mid())
    except OverflowError:
        return math.inf


def _good(piece: Piece) -> bool:
    return piece.bound <= max(TARGET * piece.size, FLOOR)


def _binade(side: _Side, e: int, guess: int) -> tuple[int, list[Piece]]:
    """Split and pieces of one binade; one piece without a bound where even the finest do not do."""
    edged = any(2.0**e < edge < 2.0 ** (e + 1) for edge in side.edges)
    first = max(guess - 2, EDGE_SPLIT if edged else 0)
    for s in range(first, MAX_SPLIT + 1):
        half = 2.0 ** (e - s - 1)
        centres = [2.0**e + (2 * i + 1) * half for i in range(1 << s)]
        ends = [_piece(side, c, half, PRECISION) for c in dict.fromkeys((centres[0], centres[-1]))]
        spoiled = [p for p in ends if not _good(p) and p is not _NO_PIECE]
        if (spoiled or all(p is _NO_PIECE for p in ends)) and not (edged and s == EDGE_SPLIT):
            if s == first and first < MAX_SPLIT and not edged and not _finest_does(side, e):
                return 0, [_enclosed(side, e)]
            if s < MAX_SPLIT:
                continue
        precision = min(end.precision for end in ends)
        found = [_piece(side, c, half, precision) for c in centres]
        if s == MAX_SPLIT or all(_good(p) or p is _NO_PIECE for p in found):
            return s, found
    return 0, [_NO_PIECE]


def _enclosed(side: _Side, e: int) -> Piece:
    """A whole binade as the constant or the line that f stays so near to that fp32 sees no more.

    As x + sin² x at 1e30.
    """
    low, high = 2.0**e, 2.0 ** (e + 1)
    found = shape(side.branch(low), *((low, high) if side.sign > 0 else (-high, -low)))
    if found is None:
        return _NO_PIECE
    slope, constant = float(found.slope) * side.sign, float(found.constant)
    high_order = [constant + slope * 1.5 * low, slope * low / 2]
    size = abs(high_order[0])
    bound = (found.reach + 2.0**-50 * size) * compiler.SLACK + 2.0**-1074
    if not bound <= size * VISIBLE:
        return _NO_PIECE
    return Piece([*high_order, *[0.0] * (DEGREE - 1)], [], bound, (found.reach, 0.0, 2.0**-50 * size), size)


def _finest_does(side: _Side, e: int) -> bool:
    """Whether the finest pieces would be good at both ends of a binade."""
    half = 2.0 ** (e - MAX_SPLIT - 1)
    return all(_good(_piece(side, c, half, PRECISION)) for c in (2.0**e + half, 2.0 ** (e + 1) - half))


def _order_at_zero(e: Expression) -> int | None:
    """The order of the zero of an expression without conditions at 0; None for 0 itself and beyond 4."""
    for order in range(5):
        if e is ZERO:
            return None
        with arb_module.settings(256, 2):
            germ = Place(Fraction(0), Fraction(0)).germ(e)
        if not (germ.is_exact and not germ.exact):
            return order
        e = derivative(e, "x")
    return None


def _central(side: _Side, c: int) -> tuple[int, Piece]:
    """The order v of the zero at 0, and the polynomial P of |x|^v·P(|x|/2^c) for |x| < 2^c."""
    reach = 2.0**c
    branch = side.branch(5e-324)
    order = _order_at_zero(branch)
    if order is None:
        return 0, _NO_PIECE
    with arb_module.settings(512, order + DEGREE + 3):
        exact = side.coefficients(0.0, 5e-324, order + DEGREE + 2)
        whole = side.coefficients(arb(0, reach), 5e-324, order + DEGREE + 2)[order + DEGREE + 1]
        if not whole.is_finite() or not all(a.is_finite() for a in exact):
            return 0, _NO_PIECE
        left_out = upper(whole * arb(reach) ** (DEGREE + 1))
        high, apart = [], 0.0
        for k in range(DEGREE + 1):
            b = exact[order + k] * arb(reach) ** k
            h = float(b.mid())
            apart += upper(b - arb(h)) if not b.is_zero() else 0.0
            high.append(h)
    sizes = [abs(h) * (1 + 2.0**-50) for h in high]
    rounding = horner_bound(sizes) + 1.01 * order * U * sum(sizes)
    bound = (left_out + apart + rounding) * compiler.SLACK
    return order, Piece(high, [], bound, (left_out, apart, rounding), max(sizes[:2]))


def compile_side(e: Expression, sign: int) -> Table:
    """The first tier's table of an output, an expression in x alone, for one sign of x.

    Raises:
        EnvironmentAltersResultsError: this thread does not compute IEEE arithmetic.
    """
    require("No table of a formula was made")
    sizes = tuple(sorted(abs(x) for x in edges(e) if x * sign > 0))
    side = _Side(e, sign, sizes)
    c = min([CENTRAL, *(math.frexp(size)[1] - 1 for size in sizes)])
    order, centre = _central(side, c)
    found, layout = [centre], [c, FP32_END, order]
    split = 2
    for exponent in range(c, FP32_END):
        split, made = _binade(side, exponent, split)
        layout += [split, len(found)]
        found += made
    rows = len(found)
    nothing = np.array([math.nan, math.nan])
    return Table(
        np.array(layout, np.int64), np.array([p.high for p in found]), np.zeros((0, 0)),
        np.array([p.bound for p in found]), np.zeros(3), np.zeros(rows, np.bool_), nothing,
        np.array([math.inf]), np.array([p.proof for p in found]),
    )  # fmt: skip


@lru_cache(maxsize=256)
def table(e: Expression, sign: int) -> Table:
    """`compile_side`, from memory, from disk or made now."""
    digest = hashlib.sha256(f"{VERSION}:{key(e)}:{sign}:{flint.__version__}".encode())
    for module in (series_module, arb_module, compiler):
        digest.update(inspect.getsource(module).encode())
    digest.update(inspect.getsource(inspect.getmodule(compile_side)).encode())  # type: ignore[arg-type]
    name, folder = digest.hexdigest(), cache_directory()
    if folder is None:
        return compile_side(e, sign)
    path = folder / f"formula-{name[:32]}.table"
    content = read_checked(path, name)
    if content is not None:
        return unpacked(content)
    made = compile_side(e, sign)
    write_checked(path, name, packed(made))
    return made


def hopeless(e: Expression, sign: int) -> int:
    """fp32 numbers of one sign that the table has no bound for: Arb takes them one by one."""
    found = table(e, sign)
    c, total = int(found.layout[0]), 0
    if math.isinf(found.bounds[0]):
        total += (c + 126) * 2**23 + 2**23
    for k, exponent in enumerate(range(c, FP32_END)):
        split, first = (int(v) for v in found.layout[3 + 2 * k : 5 + 2 * k])
        if exponent < -126:
            continue
        without = int(np.isinf(found.bounds[first : first + (1 << split)]).sum())
        total += without * 2 ** (23 - split)
    return total
