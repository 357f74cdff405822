"""FP32 and FP64: sums, products, fused ones, comparisons, selections, extremes, and MUFU.

The arithmetic is the plain interpreter's, so what is inferred is what the text means: which operand is which,
and what modifiers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from precision_lab.emulator import nominal
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.floats import exact_fma, exact_product, exact_sum
from precision_lab.emulator.reference.kinds import Kind, finished, flushed, number
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.reference.rounding import F32
from precision_lab.emulator.sass.code import Operand, SassInstruction, SassKernel
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words, split

ROUNDINGS = {"RM": "rm", "RP": "rp", "RZ": "rz", "RN": "rn"}
_EXACT: Mapping[str, tuple[int, Callable[..., Array]]] = {
    "ADD": (2, exact_sum), "MUL": (2, exact_product), "FMA": (3, exact_fma),
}  # fmt: skip
_PLAIN: Mapping[str, Callable[..., Array]] = {"ADD": np.add, "MUL": np.multiply}


def arithmetic(i: SassInstruction) -> Step:
    """FADD, FMUL, FFMA, DADD, DMUL and DFMA."""
    words = Words(i)
    scalar = "f32" if i.opcode[0] == "F" else "f64"
    name = i.opcode[1:]
    kind = Kind(
        scalar, ROUNDINGS[words.one_of(ROUNDINGS, "RN")], ftz=words.flag("FTZ"), sat=words.flag("SAT")
    )
    words.end()
    count, exact = _EXACT[name]
    (to,), sources = split(i, count) if len(i.arguments) == count + 1 else _odd(i)
    plain = _PLAIN.get(name) if scalar == "f32" and kind.direction == "rn" and not kind.sat else None

    def step(lanes: SassLanes, live: Mask) -> None:
        if scalar == "f64":
            value = exact(kind, *(lanes.f64(i, o).view(np.float64) for o in sources))
            lanes.put64(i, to, finished(value, kind), live)
            return
        given = [lanes.f32(i, o) for o in sources]
        if plain is None:
            lanes.put(i, to, finished(exact(kind, *(number(b, kind) for b in given)), kind), live)
            return
        found = plain(*((flushed(b, "f32") if kind.ftz else b).view(np.float32) for b in given))
        stored = np.where(np.isnan(found), np.uint32(F32.nan), found.view(np.uint32))
        lanes.put(i, to, flushed(stored, "f32") if kind.ftz else stored, live)

    return step


def _odd(i: SassInstruction) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    raise unsupported(i, f"{len(i.arguments)} operands")


# -- comparisons -----------------------------------------------------------------------------------

_ORDERED: Mapping[str, Callable[[Array, Array], Array]] = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater,
    "GE": np.greater_equal,
}  # fmt: skip
COMPARISONS = (*_ORDERED, *(f"{n}U" for n in _ORDERED), "NUM", "NAN")
JOINED: Mapping[str, Callable[[Array, Array], Array]] = {
    "AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor,
}  # fmt: skip


def compared(how: str, a: Array, b: Array) -> Array:
    """As PTX's comparisons of that name, with `u` for true where one is NaN."""
    nan = np.isnan(a) | np.isnan(b)
    if how in ("NUM", "NAN"):
        return nan if how == "NAN" else ~nan
    base = how[:2]
    found = _ORDERED[base](a, b)
    return np.asarray(found | nan if how.endswith("U") else found & ~nan)


def set_predicate(i: SassInstruction) -> Step:
    """FSETP and DSETP: p and its contrary, each joined with a third predicate.

    DSETP.MAX and .MIN choose for the instructions behind them: p says that the first operand is the result,
    and q that both are NaN.
    """
    words = Words(i)
    wide = i.opcode[0] == "D"
    kind = Kind("f64" if wide else "f32", ftz=words.flag("FTZ"))
    how, join = words.one_of((*COMPARISONS, "MAX", "MIN")), words.one_of(JOINED)
    words.end()
    if not how or not join or len(i.arguments) != 5 or (how in ("MAX", "MIN") and not wide):
        raise unsupported(i)
    p, q, first, second, third = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        read = lanes.f64 if wide else lanes.f32
        a, b = (number(read(i, o), kind) for o in (first, second))
        joined, other = JOINED[join], lanes.truth(i, third)
        if how in ("MAX", "MIN"):
            chosen, contrary = _extreme64(how, a, b)
            lanes.put(i, p, joined(chosen, other), live)
            lanes.put(i, q, joined(contrary, other), live)
            return
        found = compared(how, a, b)
        lanes.put(i, p, joined(found, other), live)
        lanes.put(i, q, joined(~found, other), live)

    return step


def _extreme64(how: str, a: Array, b: Array) -> tuple[Array, Array]:
    above = (a > b) | ((a == b) & ~np.signbit(a))
    first = above if how == "MAX" else (a < b) | ((a == b) & np.signbit(a))
    none = np.isnan(a), np.isnan(b)
    return np.asarray(np.where(none[0], False, first | none[1])), np.asarray(none[0] & none[1])


def set_number(i: SassInstruction) -> Step:
    """FSET: all ones where the comparison holds, with .BF the number 1, else 0."""
    words = Words(i)
    true = np.uint32(0x3F800000 if words.flag("BF") else 0xFFFFFFFF)
    kind = Kind("f32", ftz=words.flag("FTZ"))
    how, join = words.one_of(COMPARISONS), words.one_of(JOINED)
    words.end()
    if not how or not join or len(i.arguments) != 4:
        raise unsupported(i)
    to, first, second, third = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = (number(lanes.f32(i, o), kind) for o in (first, second))
        found = JOINED[join](compared(how, a, b), lanes.truth(i, third))
        lanes.put(i, to, np.where(found, true, np.uint32(0)), live)

    return step


# -- choices ---------------------------------------------------------------------------------------


def select(i: SassInstruction) -> Step:
    """FSEL and SEL: the first operand where a predicate holds."""
    words = Words(i)
    kind = Kind("f32", ftz=words.flag("FTZ"))
    words.end()
    to, first, second, which = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        read = lanes.f32 if i.opcode == "FSEL" else lanes.integer
        a, b = (flushed(read(i, o), "f32") if kind.ftz else read(i, o) for o in (first, second))
        lanes.put(i, to, np.where(lanes.truth(i, which), a, b), live)

    return step


def extreme(i: SassInstruction) -> Step:
    """FMNMX: the smaller where a predicate holds, else the larger; NaN loses, and wins with .NAN."""
    words = Words(i)
    ftz, nan = words.flag("FTZ"), words.flag("NAN")
    words.end()
    to, first, second, smaller = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = (lanes.f32(i, o) for o in (first, second))
        if ftz:
            a, b = flushed(a, "f32"), flushed(b, "f32")
        x, y = a.view(np.float32), b.view(np.float32)
        below = (x < y) | ((x == y) & np.signbit(x))  # −0 is below +0
        found = np.where(lanes.truth(i, smaller) == below, a, b)
        found = np.where(np.isnan(x), b, np.where(np.isnan(y), a, found))
        none = (np.isnan(x) | np.isnan(y)) if nan else (np.isnan(x) & np.isnan(y))
        lanes.put(i, to, np.where(none, np.uint32(F32.nan), found), live)

    return step


# -- approximate instructions ----------------------------------------------------------------------

# MUFU by name: the PTX instruction that ptxas makes it of.
MUFU = {"EX2": "ex2", "LG2": "lg2", "RCP": "rcp", "RSQ": "rsqrt", "SQRT": "sqrt", "TANH": "tanh",
        "RCP64H": "rcp", "RSQ64H": "rsqrt"}  # fmt: skip


def is_half(i: SassInstruction) -> bool:
    return "F16" in i.modifiers


def multifunction(i: SassInstruction) -> Step:
    """MUFU: as the PTX instruction with .approx and .ftz, by what a launch chose; of FP64 the upper half."""
    words = Words(i)
    name, half = words.one_of(MUFU), words.flag("F16")
    words.end()
    if not name or len(i.arguments) != 2:
        raise unsupported(i)
    to, source = i.arguments
    upper = name.endswith("64H")
    op = f"{MUFU[name]}.approx.{'f64' if upper else 'f16' if half else 'f32'}"
    ftz = not half and (upper or nominal.supports(op, True))

    def step(lanes: SassLanes, live: Mask) -> None:
        given = np.ascontiguousarray(lanes.f32(i, source))
        if upper:
            given = given.astype(np.uint64) << np.uint64(32)
        elif half:
            given = given.astype(np.uint16)
        choice, kernel = lanes.launch.choice, lanes.launch.kernel
        assert isinstance(kernel, SassKernel)
        table = choice.tables.get((op, ftz))
        if table is not None:
            found = table.evaluate(given)
        else:
            found = nominal.evaluate(op, ftz, choice.of(kernel.at[i.line]), given)
        lanes.put(i, to, (found >> np.uint64(32) if upper else found).astype(np.uint32), live)

    return step


def check_division(i: SassInstruction) -> Step:
    """FCHK: whether a quotient must be computed the long way.

    Which operands the hardware sends there is not documented. Both ways give the correctly rounded quotient
    where the short one is exact to the end, so sending more of them there changes no result.
    """
    Words(i).end()
    to, first, second = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        above, below = (
            ((lanes.f32(i, o) >> np.uint32(23)) & np.uint32(255)).astype(np.int64) for o in (first, second)
        )
        apart = above - below
        short = (above > 30) & (above < 254) & (below > 0) & (below < 253) & (abs(apart) < 124)
        lanes.put(i, to, ~short, live)

    return step
