"""Signs of floating-point numbers, and the lesser or greater of them."""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.emulator.fast.code import FLOAT, Code
from precision_lab.emulator.fast.floats import flushed, on_sixteen
from precision_lab.emulator.fast.formats import FORMATS, NAN, narrowed, widened
from precision_lab.emulator.fast.thread import WIDTHS, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand


def sign(t: Thread, i: Instruction) -> None:
    """neg and abs: of a NaN, whose result the manual leaves open, only the sign changes."""
    m = Modifiers(i)
    kind, ftz = m.last(("f32", "f64", "f16", "f16x2", "bf16", "bf16x2")), m.flag("ftz")
    m.done()
    to, a = operands(i, 2)
    width, c = WIDTHS[kind], t.code
    n = f"i{width}"
    if ftz and kind not in ("f32", "f16", "f16x2"):
        raise unsupported(i, f".ftz of .{kind}")
    mask = 0x80008000 if kind.endswith("x2") else 1 << (width - 1)
    if i.opcode == "neg":
        changed = c.value(f"xor {n} {_flushed_bits(t, i, a, kind, ftz)}, {mask}")
    else:
        changed = c.value(f"and {n} {_flushed_bits(t, i, a, kind, ftz)}, {mask ^ ((1 << width) - 1)}")
    if kind in ("f32", "f64"):
        value = t.read_float(i, a, width)
        value = flushed(c, value) if ftz else value
        value = c.value(f"fneg {FLOAT[width]} {value}") if i.opcode == "neg" else c.fabs(value, FLOAT[width])
        t.write_float(i, to, value, width, changed)
    else:
        t.write(i, to, changed, width)


def _flushed_bits(t: Thread, i: Instruction, operand: Operand, kind: str, ftz: bool) -> str:
    """The bits of a source; of subnormal numbers, if flushed, only the sign."""
    c, width = t.code, WIDTHS[kind]
    bits = t.read(i, operand, width)
    if not ftz:
        return bits
    if kind == "f32":
        return c.to_bits(flushed(c, c.to_float(bits, 32)), 32)

    def one(half: str) -> str:
        small = c.value(f"icmp eq i16 {c.value(f'and i16 {half}, {0x7C00}')}, 0")
        return c.select(small, "i16", c.value(f"and i16 {half}, {-0x8000}"), half)

    if width == 16:
        return one(bits)
    low, high = t.halves(bits, 32)
    return t.joined(one(low), one(high), 16)


def copysign(t: Thread, i: Instruction) -> None:
    """The magnitude of b with the sign of a."""
    m = Modifiers(i)
    kind = m.last(("f32", "f64"))
    m.done()
    to, a, b = operands(i, 3)
    width, c = WIDTHS[kind], t.code
    top = 1 << (width - 1)
    own = c.value(f"and i{width} {t.read(i, a, width)}, {top}")
    magnitude = c.value(f"and i{width} {t.read(i, b, width)}, {top - 1}")
    t.write(i, to, c.value(f"or i{width} {own}, {magnitude}"), width)


# -- minimum and maximum ----------------------------------------------------------------------------------


def extreme(t: Thread, i: Instruction) -> None:
    """min and max, of two numbers or three; -0 is less than +0.

    A NaN gives way to a number, unless .NaN; with .xorsign.abs magnitudes are compared, and the sign is that
    of the product.
    """
    m = Modifiers(i)
    kind = m.last(("f32", "f64", "f16", "f16x2", "bf16", "bf16x2"))
    ftz, nan, xorsign = m.flag("ftz"), m.flag("NaN"), m.flag("xorsign")
    absolute = m.flag("abs")
    m.done()
    _, *sources = operands(i, *((3, 4) if kind == "f32" else (3,)))
    if (
        absolute != xorsign
        or (kind == "f64" and (nan or xorsign))
        or (ftz and kind not in ("f32", "f16", "f16x2"))
    ):
        raise unsupported(i, f"modifiers of .{kind}")
    if xorsign and len(sources) == 3:
        raise unsupported(i, ".xorsign of three")
    if kind in ("f32", "f64"):
        width = WIDTHS[kind]
        values = [t.read_float(i, s, width) for s in sources]
        if ftz:
            values = [flushed(t.code, v) for v in values]
        # Bits of registers: the sign of a NaN that arithmetic made is not the one that this machine made.
        signs = _signs(t.code, width, *(t.read(i, s, width) for s in sources)) if xorsign else ""
        result = values[0]
        for other in values[1:]:
            result = _extreme(t.code, i.opcode, width, result, other, nan, signs)
        t.write_float(i, i.operands[0], result, width)
        return
    fmt = FORMATS[kind.removesuffix("x2")]

    def body(c: Code, codes: Sequence[str]) -> str:
        pair = [widened(c, x, fmt) for x in codes]
        if ftz:
            pair = [flushed(c, v, fmt.name) for v in pair]
        signs = c.value(f"shl i32 {_signs(c, 16, *codes)}, 16") if xorsign else ""
        found = _extreme(c, i.opcode, 32, pair[0], pair[1], nan, signs)
        return narrowed(c, c.to_bits(found, 32), fmt, "rn")  # exact: it is one of both

    on_sixteen(t, i, kind, sources, body)


def _signs(c: Code, width: int, a: str, b: str) -> str:
    """The sign of the product of two numbers with these bits, at its place; of 16 bits they are in an i32."""
    n = f"i{max(width, 32)}"
    both = c.value(f"xor {n} {a}, {b}")
    return c.value(f"and {n} {both}, {1 << (width - 1)}")


def _extreme(c: Code, opcode: str, width: int, a: str, b: str, nan: bool, signs: str) -> str:
    """The lesser or greater; with `signs`, of magnitudes, and with that sign."""
    name, n = FLOAT[width], f"i{width}"
    if signs:
        a, b = c.fabs(a, name), c.fabs(b, name)
    # Equal numbers are the same, or zeros: of the signs of zeros min takes any minus, max any plus.
    p, q = c.to_bits(a, width), c.to_bits(b, width)
    same = c.to_float(c.value(f"{'or' if opcode == 'min' else 'and'} {n} {p}, {q}"), width)
    first = c.value(f"fcmp {'olt' if opcode == 'min' else 'ogt'} {name} {a}, {b}")
    found = c.select(first, name, a, b)  # b where a is a NaN
    found = c.select(c.value(f"fcmp oeq {name} {a}, {b}"), name, same, found)
    found = c.select(c.value(f"fcmp uno {name} {b}, {b}"), name, a, found)
    if nan:
        found = c.select(c.value(f"fcmp uno {name} {a}, {b}"), name, c.constant(NAN[width], width), found)
    if signs:  # of a NaN the sign is not looked at again
        found = c.to_float(c.value(f"or {n} {c.to_bits(found, width)}, {signs}"), width)
    return found
