"""Integer arithmetic."""

from __future__ import annotations

from precision_lab.emulator.fast.thread import WIDTHS, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction

SIGNED = ("s16", "s32", "s64")
UNSIGNED = ("u16", "u32", "u64")
INTEGERS = (*SIGNED, *UNSIGNED)
PACKED = ("u16x2", "s16x2")


def add(t: Thread, i: Instruction) -> None:
    """add and sub of integers; .sat clamps, of .s32 only."""
    m = Modifiers(i)
    kind = m.last((*INTEGERS, *PACKED))
    saturate = m.flag("sat")
    m.done()
    if saturate and kind != "s32":
        raise unsupported(i, f".sat of .{kind}")
    to, a, b = operands(i, 3)
    width = WIDTHS[kind]
    x, y = t.read(i, a, width), t.read(i, b, width)
    if kind in PACKED:
        pairs = zip(t.halves(x, 32), t.halves(y, 32), strict=True)
        low, high = (t.code.value(f"{i.opcode} i16 {p}, {q}") for p, q in pairs)
        t.write(i, to, t.joined(low, high, 16), 32)
    elif saturate:
        name = f"llvm.s{i.opcode}.sat.i32"
        t.write(i, to, t.code.intrinsic(name, "i32", ("i32", x), ("i32", y)), 32)
    else:
        t.write(i, to, t.code.value(f"{i.opcode} i{width} {x}, {y}"), width)


def _product(t: Thread, i: Instruction, kind: str, part: str) -> tuple[str, int]:
    """The low or the high half of a product, or all of it, and its width."""
    width, signed = WIDTHS[kind], kind in SIGNED
    a, b = i.operands[1:3]
    x, y = t.read(i, a, width), t.read(i, b, width)
    if part == "lo":
        return t.code.value(f"mul i{width} {x}, {y}"), width
    x, y = (t.code.resized(v, width, 2 * width, signed=signed) for v in (x, y))
    product = t.code.value(f"mul i{2 * width} {x}, {y}")
    if part == "wide":
        return product, 2 * width
    return t.halves(product, 2 * width)[1], width


def mul(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    kind, part = m.last(INTEGERS), m.one_of(("lo", "hi", "wide"))
    m.done()
    operands(i, 3)
    if not part or (part == "wide" and WIDTHS[kind] == 64):
        raise unsupported(i, "which half")
    t.write(i, i.operands[0], *_product(t, i, kind, part))


def mad(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    kind, part, saturate = m.last(INTEGERS), m.one_of(("lo", "hi", "wide")), m.flag("sat")
    m.done()
    to, _, _, c = operands(i, 4)
    if not part or (part == "wide" and WIDTHS[kind] == 64) or (saturate and (kind, part) != ("s32", "hi")):
        raise unsupported(i, "which half")
    product, width = _product(t, i, kind, part)
    z = t.read(i, c, width)
    if saturate:
        t.write(i, to, t.code.intrinsic("llvm.sadd.sat.i32", "i32", ("i32", product), ("i32", z)), 32)
    else:
        t.write(i, to, t.code.value(f"add i{width} {product}, {z}"), width)


def sad(t: Thread, i: Instruction) -> None:
    """c + |a - b|, modulo the width."""
    m = Modifiers(i)
    kind = m.last(INTEGERS)
    m.done()
    to, a, b, c = operands(i, 4)
    width, s = WIDTHS[kind], kind[0]
    x, y, z = (t.read(i, o, width) for o in (a, b, c))
    most, least = t.code.maximum(s, f"i{width}", x, y), t.code.minimum(s, f"i{width}", x, y)
    distance = t.code.value(f"sub i{width} {most}, {least}")
    t.write(i, to, t.code.value(f"add i{width} {z}, {distance}"), width)


def div(t: Thread, i: Instruction) -> None:
    """div and rem.

    Division by zero gives what the machine gives (PTX ISA): here all ones, and as the rest the dividend. The
    least number by -1 wraps around.
    """
    m = Modifiers(i)
    kind = m.last(INTEGERS)
    m.done()
    to, a, b = operands(i, 3)
    width, signed = WIDTHS[kind], kind in SIGNED
    n, c = f"i{width}", t.code
    x, y = t.read(i, a, width), t.read(i, b, width)
    zero = c.value(f"icmp eq {n} {y}, 0")
    special, safe = zero, c.select(zero, n, "1", y)
    minus_one = ""
    if signed:
        minus_one = c.value(f"icmp eq {n} {y}, -1")
        safe = c.select(minus_one, n, "1", safe)
    result = c.value(f"{'s' if signed else 'u'}{i.opcode} {n} {x}, {safe}")
    if signed:
        negative = c.value(f"sub {n} 0, {x}") if i.opcode == "div" else "0"
        result = c.select(minus_one, n, negative, result)
    t.write(i, to, c.select(special, n, "-1" if i.opcode == "div" else x, result), width)


def neg(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    kind = m.last(SIGNED)
    m.done()
    to, a = operands(i, 2)
    t.write(i, to, t.code.value(f"sub i{WIDTHS[kind]} 0, {t.read(i, a, WIDTHS[kind])}"), WIDTHS[kind])


def absolute(t: Thread, i: Instruction) -> None:
    """abs; that of the least number is itself."""
    m = Modifiers(i)
    kind = m.last(SIGNED)
    m.done()
    to, a = operands(i, 2)
    n, x = f"i{WIDTHS[kind]}", t.read(i, a, WIDTHS[kind])
    negative = t.code.value(f"icmp slt {n} {x}, 0")
    t.write(i, to, t.code.select(negative, n, t.code.value(f"sub {n} 0, {x}"), x), WIDTHS[kind])


def extreme(t: Thread, i: Instruction) -> None:
    """min and max; .relu makes 0 of what is negative."""
    m = Modifiers(i)
    kind, relu = m.last((*INTEGERS, *PACKED)), m.flag("relu")
    m.done()
    if relu and kind not in ("s32", "s16x2"):
        raise unsupported(i, f".relu of .{kind}")
    to, a, b = operands(i, 3)
    width = WIDTHS[kind]
    x, y = t.read(i, a, width), t.read(i, b, width)

    def chosen(p: str, q: str, n: str) -> str:
        found = t.code.intrinsic(f"llvm.{kind[0]}{i.opcode}.{n}", n, (n, p), (n, q))
        return t.code.maximum("s", n, found, "0") if relu else found

    if kind in PACKED:
        low, high = (chosen(p, q, "i16") for p, q in zip(t.halves(x, 32), t.halves(y, 32), strict=True))
        t.write(i, to, t.joined(low, high, 16), 32)
    else:
        t.write(i, to, chosen(x, y, f"i{width}"), width)
