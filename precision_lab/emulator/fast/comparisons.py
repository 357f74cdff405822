"""Comparisons, and choices made by them."""

from __future__ import annotations

from precision_lab.emulator.fast.code import FLOAT
from precision_lab.emulator.fast.floats import flushed
from precision_lab.emulator.fast.formats import FORMATS, widened
from precision_lab.emulator.fast.thread import WIDTHS, Handlers, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand, Pair, Sink

# Of floats: with a NaN the first six are false, the next six and `nan` true.
_ORDERED = ("eq", "ne", "lt", "le", "gt", "ge")
_FLOAT = {
    **{name: "o" + name for name in _ORDERED}, **{name + "u": "u" + name for name in _ORDERED},
    "num": "ord", "nan": "uno",
}  # fmt: skip
_UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}
_INTEGERS = ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64")
_PACKED = ("f16x2", "bf16x2")
_SOURCES = (*_INTEGERS, "f16", "bf16", *_PACKED, "f32", "f64")


def _compared(t: Thread, i: Instruction, how: str, kind: str, a: Operand, b: Operand, ftz: bool) -> list[str]:
    """Whether each pair of numbers compares so: one i1, or two of packed formats."""
    c, width = t.code, WIDTHS[kind]
    if kind in _INTEGERS:
        if how in ("eq", "ne"):
            name = how
        elif how in _ORDERED and kind[0] in "us":
            name = kind[0] + how
        elif how in _UNSIGNED and kind[0] == "u":
            name = _UNSIGNED[how]
        else:
            raise unsupported(i, f".{how} of .{kind}")
        return [c.value(f"icmp {name} i{width} {t.read(i, a, width)}, {t.read(i, b, width)}")]
    if how not in _FLOAT:
        raise unsupported(i, f".{how} of .{kind}")
    name = _FLOAT[how]
    if kind in ("f32", "f64"):
        x, y = (t.read_float(i, o, width) for o in (a, b))
        if ftz:
            x, y = flushed(c, x), flushed(c, y)
        return [c.value(f"fcmp {name} {FLOAT[width]} {x}, {y}")]
    fmt = FORMATS[kind.removesuffix("x2")]
    results = []
    p, q = t.read(i, a, width), t.read(i, b, width)
    pairs = zip(t.halves(p, 32), t.halves(q, 32), strict=True) if kind in _PACKED else [(p, q)]
    for pair in pairs:
        x, y = (widened(c, c.resized(v, 16, 32), fmt) for v in pair)
        if ftz:
            x, y = flushed(c, x, "f16"), flushed(c, y, "f16")
        results.append(c.value(f"fcmp {name} float {x}, {y}"))
    return results


def _modifiers(m: Modifiers, i: Instruction) -> tuple[str, str, bool, str]:
    """How is compared, with what it is combined, whether subnormal numbers are flushed, and of what type."""
    kind = m.last(_SOURCES)
    ftz = m.flag("ftz")
    if ftz and kind not in ("f32", "f16", "f16x2"):
        raise unsupported(i, f".ftz of .{kind}")
    how = m.one_of((*_FLOAT, *_UNSIGNED))
    if not how:
        raise unsupported(i, "without a comparison")
    return how, m.one_of(("and", "or", "xor")), ftz, kind


def setp(t: Thread, i: Instruction) -> None:
    """Predicates: of one comparison it and its contrary, or both comparisons of packed formats."""
    m = Modifiers(i)
    how, combine, ftz, kind = _modifiers(m, i)
    m.done()
    to, a, b, *third = operands(i, 4 if combine else 3)
    c = t.code
    found = _compared(t, i, how, kind, a, b, ftz)
    first, second = (to.first, to.second) if isinstance(to, Pair) else (to, Sink())
    if kind in _PACKED:
        if not isinstance(to, Pair):
            raise unsupported(i, "one predicate for two numbers")
    elif not isinstance(second, Sink):
        found.append(c.value(f"xor i1 {found[0]}, true"))
    if combine:
        other = t.read_predicate(i, third[0])
        found = [c.value(f"{combine} i1 {each}, {other}") for each in found]
    for destination, value in zip((first, second), found, strict=False):
        t.write_predicate(i, destination, value)


def set_(t: Thread, i: Instruction) -> None:
    """All ones or 0 for integer results, 1.0 or 0.0 for others."""
    m = Modifiers(i)
    how, combine, ftz, kind = _modifiers(m, i)
    to_type = m.last(("u32", "s32", "f32", "u16", "s16", "f16", "bf16", *_PACKED))
    m.done()
    if kind in _PACKED:
        allowed = to_type in (kind, "u32", "s32")
    elif kind in ("f16", "bf16"):
        allowed = to_type not in _PACKED
    else:
        allowed = to_type in ("u32", "s32", "f32", "f16", "bf16")
    if not allowed:
        raise unsupported(i, f".{to_type} of .{kind}")
    to, a, b, *third = operands(i, 4 if combine else 3)
    c = t.code
    found = _compared(t, i, how, kind, a, b, ftz)
    if combine:
        other = t.read_predicate(i, third[0])
        found = [c.value(f"{combine} i1 {each}, {other}") for each in found]
    one = {"f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80, "f16x2": 0x3C00, "bf16x2": 0x3F80}.get(
        to_type, -1
    )
    width = 16 if kind in _PACKED else WIDTHS[to_type]
    values = [c.select(each, f"i{width}", str(one), "0") for each in found]
    if kind in _PACKED:
        t.write(i, to, t.joined(values[0], values[1], 16), 32)
    else:
        t.write(i, to, values[0], width)


def selp(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    kind = m.last((*_INTEGERS, "f32", "f64"))
    m.done()
    to, a, b, p = operands(i, 4)
    width, condition = WIDTHS[kind], t.read_predicate(i, p)
    t.write(i, to, t.code.select(condition, f"i{width}", t.read(i, a, width), t.read(i, b, width)), width)


def slct(t: Thread, i: Instruction) -> None:
    """a where c is not negative, -0 included; b elsewhere and for a NaN."""
    m = Modifiers(i)
    by, ftz = m.last(("s32", "f32")), m.flag("ftz")
    kind = m.last((*_INTEGERS, "f32", "f64"))
    m.done()
    if ftz and by != "f32":
        raise unsupported(i, ".ftz of .s32")
    to, a, b, s = operands(i, 4)
    width, c = WIDTHS[kind], t.code
    if by == "s32":
        condition = c.value(f"icmp sge i32 {t.read(i, s, 32)}, 0")
    else:
        value = t.read_float(i, s, 32)
        value = flushed(c, value) if ftz else value
        condition = c.value(f"fcmp oge float {value}, {c.constant(0, 32)}")
    t.write(i, to, c.select(condition, f"i{width}", t.read(i, a, width), t.read(i, b, width)), width)


def testp(t: Thread, i: Instruction) -> None:
    """Of what class a number is; zero counts as normal."""
    m = Modifiers(i)
    kind = m.last(("f32", "f64"))
    what = m.one_of(("finite", "infinite", "number", "notanumber", "normal", "subnormal"))
    m.done()
    to, a = operands(i, 2)
    width, c = WIDTHS[kind], t.code
    n, top = f"i{width}", 1 << (width - 1)
    digits = 23 if width == 32 else 52
    infinity = (top - 1) >> digits << digits
    magnitude = c.value(f"and {n} {t.read(i, a, width)}, {top - 1}")
    small = c.value(f"icmp ult {n} {magnitude}, {1 << digits}")
    zero = c.value(f"icmp eq {n} {magnitude}, 0")
    finite = c.value(f"icmp ult {n} {magnitude}, {infinity}")
    subnormal = c.value(f"and i1 {small}, {c.value(f'xor i1 {zero}, true')}")
    found = {
        "finite": lambda: finite,
        "infinite": lambda: c.value(f"icmp eq {n} {magnitude}, {infinity}"),
        "number": lambda: c.value(f"icmp ule {n} {magnitude}, {infinity}"),
        "notanumber": lambda: c.value(f"icmp ugt {n} {magnitude}, {infinity}"),
        "normal": lambda: c.value(f"and i1 {finite}, {c.value(f'xor i1 {subnormal}, true')}"),
        "subnormal": lambda: subnormal,
    }.get(what)
    if found is None:
        raise unsupported(i, "without a class")
    t.write_predicate(i, to, found())


HANDLERS: Handlers = {"setp": setp, "set": set_, "selp": selp, "slct": slct, "testp": testp}
