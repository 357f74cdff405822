"""Compiles a formula at given parameters into piecewise polynomials with proven errors.

One side of an output is one table over every fp32 number of that sign. Where an edge of the formula lies in a
piece, or where no polynomial of the degree is good enough, as of sin at 1e30, the piece's bound is infinite:
what lies there is left to Arb, input by input, and `without_piece` says how many that are.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import numpy as np
from flint import arb, arb_series

from precision_lab.formats import FP32
from precision_lab.formula.derivatives import derivative
from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import ZERO
from precision_lab.formula.writing import key
from precision_lab.functions import Activation
from precision_lab.numeric.error_free import U
from precision_lab.oracle import arb_series as arb_module
from precision_lab.oracle import branches, germ_functions, germs
from precision_lab.oracle import domain as domain_module
from precision_lab.oracle import formula_series as series_module
from precision_lab.oracle import piecewise_compiler as compiler
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.blocks import shape
from precision_lab.oracle.domain import branch_inside, partial
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
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked
from precision_lab.system.ieee import require

VERSION = 2
EDGE_SPLIT = 8  # of a binade with an edge inside: the piece that the edge spoils is a 256th of it
MAX_BITS = 1024
HIGHEST_ORDER = 16  # of a zero at 0 that is looked for
SMALLEST_EXPONENT = -149  # of fp32's smallest number
VISIBLE = 2.0**-36  # relative: what fp32 can see of a rest, and 2^-12 of that
_NO_PIECE = Piece([0.0] * (DEGREE + 1), [], math.inf, (math.inf, 0.0, 0.0), 0.0)


class _Side:
    """An output for one sign of x.

    Attributes:
        function: what it is a derivative of, whose domain it has; None where that is all x.
    """

    def __init__(self, e: Expression, sign: int, function: Expression | None) -> None:
        self.e, self.sign, self.function = e, sign, function
        self._binades: dict[int, Expression | None] = {}

    def between(self, low: float, high: float) -> Expression | None:
        """The expression without conditions that holds for all sizes between two numbers, proven; or None."""
        ends = sorted(self.sign * Fraction(size) for size in (low, high))
        return branch_inside(self.e, self.function, *ends)

    def binade(self, e: int) -> Expression | None:
        """`between` of 2^e and 2^(e + 1)."""
        if e not in self._binades:
            self._binades[e] = self.between(2.0**e, 2.0 ** (e + 1))
        return self._binades[e]

    def coefficients(self, branch: Expression, size: Any, terms: int) -> list[arb]:
        """Taylor coefficients in |x| of an expression without conditions, around a number or a ball."""
        x = arb_series([arb(size) * self.sign, arb(self.sign)])
        try:
            found = series_module.series(branch, x)
        except (ValueError, ZeroDivisionError):  # a pole in the ball: no series
            return [arb.nan()] * terms
        return [found[k] for k in range(terms)]


def _piece(side: _Side, centre: float, half: float, precision: int) -> Piece:
    """As `piecewise_compiler._piece` of the first tier, with Arb's precision doubled while it matters."""
    branch = side.binade(math.frexp(centre)[1] - 1)
    if branch is None:
        branch = side.between(centre - half, centre + half)
    if branch is None:
        return _NO_PIECE
    while True:
        with working_precision(precision, DEGREE + 2):
            width, scale = arb(half), arb(1)
            high, apart = [], 0.0
            for a in side.coefficients(branch, centre, DEGREE + 1):
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
    with working_precision(precision, DEGREE + 2):
        whole = side.coefficients(branch, arb(centre, half), DEGREE + 2)[DEGREE + 1]
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
    edged = side.binade(e) is None
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
        if all(p is _NO_PIECE for p in found):
            break
        if s == MAX_SPLIT or all(_good(p) or p is _NO_PIECE for p in found):
            return s, found
    return 0, [_NO_PIECE]


def _enclosed(side: _Side, e: int) -> Piece:
    """A whole binade as the constant or the line that f stays so near to that fp32 sees no more.

    As x + sin² x at 1e30.
    """
    low, high = 2.0**e, 2.0 ** (e + 1)
    branch = side.binade(e)
    found = None if branch is None else shape(branch, *((low, high) if side.sign > 0 else (-high, -low)))
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
    """The order of the zero of an expression without conditions at 0; None where it is not found."""
    for order in range(HIGHEST_ORDER + 1):
        with working_precision(256, 2):
            germ = Place(Fraction(0), Fraction(0)).germ(e)
        if not (germ.is_exact and not germ.exact):
            return order
        e = derivative(e, "x")
    return None


def _central(side: _Side, branch: Expression, c: int) -> tuple[int, Piece]:
    """The order v of the zero at 0, and the polynomial P of |x|^v·P(|x|/2^c) for |x| < 2^c."""
    if branch is ZERO:
        return 0, Piece([0.0] * (DEGREE + 1), [], 0.0, (0.0, 0.0, 0.0), 0.0)
    reach = 2.0**c
    order = _order_at_zero(branch)
    if order is None:
        return 0, _NO_PIECE
    with working_precision(512, order + DEGREE + 3):
        exact = side.coefficients(branch, 0.0, order + DEGREE + 2)
        whole = side.coefficients(branch, arb(0, reach), order + DEGREE + 2)[order + DEGREE + 1]
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


def _next_to_zero(side: _Side) -> tuple[int, int, Piece]:
    """c, v and the polynomial of `_central`: for |x| < 2^c, where no condition changes.

    Where there is none, as of √x, c is that of the smallest fp32 number: binades go on down to it.
    """
    for c in range(CENTRAL, SMALLEST_EXPONENT, -1):
        branch = side.between(2.0 ** (SMALLEST_EXPONENT - 1), 2.0**c)
        if branch is not None:
            order, piece = _central(side, branch, c)
            return (SMALLEST_EXPONENT, 0, _NO_PIECE) if piece is _NO_PIECE else (c, order, piece)
    return SMALLEST_EXPONENT, 0, _NO_PIECE


def compile_side(e: Expression, sign: int, function: Expression | None = None) -> Table:
    """The first tier's table of an output, an expression in x alone, for one sign of x.

    Args:
        function: what it is a derivative of, where that does not have values for all x.

    Raises:
        EnvironmentAltersResultsError: this thread does not compute IEEE arithmetic.
    """
    require("No table of a formula was made")
    side = _Side(e, sign, function)
    c, order, centre = _next_to_zero(side)
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
def table(e: Expression, sign: int, function: Expression | None = None) -> Table:
    """`compile_side`, from memory, from disk or made now."""
    domain = "" if function is None else key(function)
    digest = hashlib.sha256(f"{VERSION}:{key(e)}:{domain}:{sign}:{flint.__version__}".encode())
    for module in (series_module, arb_module, compiler, branches, domain_module, germs, germ_functions):
        digest.update(inspect.getsource(module).encode())
    digest.update(inspect.getsource(inspect.getmodule(compile_side)).encode())  # type: ignore[arg-type]
    name, folder = digest.hexdigest(), cache_directory()
    if folder is None:
        return compile_side(e, sign, function)
    path = folder / f"formula-{name[:32]}.table"
    content = read_checked(path, name)
    if content is not None:
        return unpacked(content)
    made = compile_side(e, sign, function)
    write_checked(path, name, packed(made))
    return made


def tables(function: Activation, output: str, params: Mapping[str, float]) -> tuple[Table, Table]:
    """The tables of an output at given parameters, for x < 0 and x > 0."""
    e, domain = function.bound_expression(output, params), own_domain(function, params)
    return table(e, -1, domain), table(e, 1, domain)


def own_domain(function: Activation, params: Mapping[str, float]) -> Expression | None:
    """What has values where all outputs are judged; None where that is all x."""
    forward = function.bound_expression("forward", params)
    return forward if partial(forward) else None


def without_piece(found: Table) -> Iterator[tuple[int, int]]:
    """Exponents e of the binades with fp32 numbers that a table has no bound for, and how many each has."""
    c = int(found.layout[0])
    if math.isinf(found.bounds[0]):
        yield from ((e, _numbers(e)) for e in range(SMALLEST_EXPONENT, c))
    for k, e in enumerate(range(c, FP32_END)):
        split, first = (int(v) for v in found.layout[3 + 2 * k : 5 + 2 * k])
        parts = int(np.isinf(found.bounds[first : first + (1 << split)]).sum())
        if parts:
            yield e, _numbers(e) * parts >> split


def _numbers(e: int) -> int:
    """fp32 numbers from 2^e to before 2^(e + 1)."""
    return 1 << (23 if e >= FP32.emin else e - SMALLEST_EXPONENT)
