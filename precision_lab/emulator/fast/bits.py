"""Logic, shifts, fields of bits, and bytes put elsewhere."""

from __future__ import annotations

from precision_lab.emulator.fast.integers import INTEGERS, SIGNED
from precision_lab.emulator.fast.thread import WIDTHS, Handlers, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Integer

_LOGIC = ("pred", "b16", "b32", "b64")


def logic(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    kind = m.last(_LOGIC)
    m.done()
    to, a, b = operands(i, 3)
    if kind == "pred":
        p, q = t.read_predicate(i, a), t.read_predicate(i, b)
        t.write_predicate(i, to, t.code.value(f"{i.opcode} i1 {p}, {q}"))
        return
    width = WIDTHS[kind]
    x, y = t.read(i, a, width), t.read(i, b, width)
    t.write(i, to, t.code.value(f"{i.opcode} i{width} {x}, {y}"), width)


def invert(t: Thread, i: Instruction) -> None:
    """not, and cnot: 1 for 0 and 0 for all else."""
    m = Modifiers(i)
    kind = m.last(_LOGIC if i.opcode == "not" else _LOGIC[1:])
    m.done()
    to, a = operands(i, 2)
    if kind == "pred":
        t.write_predicate(i, to, t.code.value(f"xor i1 {t.read_predicate(i, a)}, true"))
        return
    width = WIDTHS[kind]
    x = t.read(i, a, width)
    if i.opcode == "not":
        t.write(i, to, t.code.value(f"xor i{width} {x}, -1"), width)
    else:
        t.write(i, to, t.code.resized(t.code.value(f"icmp eq i{width} {x}, 0"), 1, width), width)


def shift(t: Thread, i: Instruction) -> None:
    """shl and shr; an amount beyond the width counts as the width."""
    m = Modifiers(i)
    kind = m.last(_LOGIC[1:] if i.opcode == "shl" else (*_LOGIC[1:], *INTEGERS))
    m.done()
    to, a, b = operands(i, 3)
    width, c = WIDTHS[kind], t.code
    n, x, amount = f"i{width}", t.read(i, a, width), t.read(i, b, 32)
    beyond = c.value(f"icmp uge i32 {amount}, {width}")
    within = c.select(beyond, "i32", str(width - 1), amount)
    within = c.resized(within, 32, width)
    if kind in SIGNED:  # all but one bit: nothing is left but the sign
        t.write(i, to, c.value(f"ashr {n} {x}, {within}"), width)
        return
    shifted = c.value(f"{'shl' if i.opcode == 'shl' else 'lshr'} {n} {x}, {within}")
    t.write(i, to, c.select(beyond, n, "0", shifted), width)


def _mask(t: Thread, n: str, width: int, count: str) -> str:
    """The lowest `count` bits, all of them where it is the width or more."""
    c = t.code
    full = c.value(f"icmp uge {n} {count}, {width}")
    safe = c.select(full, n, "0", count)
    some = c.value(f"sub {n} {c.value(f'shl {n} 1, {safe}')}, 1")
    return c.select(full, n, "-1", some)


def bfe(t: Thread, i: Instruction) -> None:
    """A field of `len` bits from `pos`; of a signed type its topmost bit, or the number's, fills the rest."""
    m = Modifiers(i)
    kind = m.last(("u32", "u64", "s32", "s64"))
    m.done()
    to, a, b, d = operands(i, 4)
    width, c = WIDTHS[kind], t.code
    n, x = f"i{width}", t.read(i, a, width)
    position, length = (c.resized(c.value(f"and i32 {t.read(i, o, 32)}, 255"), 32, width) for o in (b, d))
    beyond = c.value(f"icmp uge {n} {position}, {width}")
    safe = c.select(beyond, n, "0", position)
    field = c.select(beyond, n, "0", c.value(f"lshr {n} {x}, {safe}"))
    left = c.select(beyond, n, "0", c.value(f"sub {n} {width}, {safe}"))
    count = c.minimum("u", n, length, left)
    mask = _mask(t, n, width, count)
    field = c.value(f"and {n} {field}, {mask}")
    if kind[0] == "s":
        last = c.value(f"sub {n} {c.value(f'add {n} {position}, {length}')}, 1")
        last = c.minimum("u", n, last, str(width - 1))
        sign = c.value(f"trunc {n} {c.value(f'lshr {n} {x}, {last}')} to i1")
        sign = c.value(f"and i1 {sign}, {c.value(f'icmp ne {n} {length}, 0')}")
        rest = c.select(sign, n, c.value(f"xor {n} {mask}, -1"), "0")
        field = c.value(f"or {n} {field}, {rest}")
    t.write(i, to, field, width)


def bfi(t: Thread, i: Instruction) -> None:
    """b with `len` bits from `pos` taken from a."""
    m = Modifiers(i)
    kind = m.last(("b32", "b64"))
    m.done()
    to, a, b, p, q = operands(i, 5)
    width, c = WIDTHS[kind], t.code
    n, x, y = f"i{width}", t.read(i, a, width), t.read(i, b, width)
    position, length = (c.resized(c.value(f"and i32 {t.read(i, o, 32)}, 255"), 32, width) for o in (p, q))
    beyond = c.value(f"icmp uge {n} {position}, {width}")
    safe = c.select(beyond, n, "0", position)
    mask = c.value(f"shl {n} {_mask(t, n, width, length)}, {safe}")
    mask = c.select(beyond, n, "0", mask)
    placed = c.value(f"and {n} {c.value(f'shl {n} {x}, {safe}')}, {mask}")
    kept = c.value(f"and {n} {y}, {c.value(f'xor {n} {mask}, -1')}")
    t.write(i, to, c.value(f"or {n} {placed}, {kept}"), width)


def count(t: Thread, i: Instruction) -> None:
    """brev, popc, clz: bits reversed, the number of ones, of zeros at the front."""
    m = Modifiers(i)
    kind = m.last(("b32", "b64"))
    m.done()
    to, a = operands(i, 2)
    width = WIDTHS[kind]
    n, x = f"i{width}", t.read(i, a, width)
    if i.opcode == "brev":
        t.write(i, to, t.code.intrinsic(f"llvm.bitreverse.{n}", n, (n, x)), width)
    elif i.opcode == "popc":
        t.write(i, to, t.code.resized(t.code.intrinsic(f"llvm.ctpop.{n}", n, (n, x)), width, 32), 32)
    else:
        zeros = t.code.intrinsic(f"llvm.ctlz.{n}", n, (n, x), ("i1", "false"))
        t.write(i, to, t.code.resized(zeros, width, 32), 32)


def bfind(t: Thread, i: Instruction) -> None:
    """Position of the first bit that is no sign, or how far it is from the front; all ones without any."""
    m = Modifiers(i)
    kind, amount = m.last(("u32", "u64", "s32", "s64")), m.flag("shiftamt")
    m.done()
    to, a = operands(i, 2)
    width, c = WIDTHS[kind], t.code
    n, x = f"i{width}", t.read(i, a, width)
    if kind[0] == "s":
        x = c.value(f"xor {n} {x}, {c.value(f'ashr {n} {x}, {width - 1}')}")
    zeros = c.resized(c.intrinsic(f"llvm.ctlz.{n}", n, (n, x), ("i1", "false")), width, 32)
    found = zeros if amount else c.value(f"sub i32 {width - 1}, {zeros}")
    t.write(i, to, c.select(c.value(f"icmp eq {n} {x}, 0"), "i32", "-1", found), 32)


# Of each mode the byte that each byte of the result is, from the lowest, by the two low bits of the selector.
PRMT = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def prmt(t: Thread, i: Instruction) -> None:
    """Bytes of b:a, chosen by four nibbles of c, whose top bit spreads the byte's sign; or by a mode."""
    m = Modifiers(i)
    m.flag("b32")
    mode = m.one_of(PRMT)
    m.done()
    to, a, b, s = operands(i, 4)
    c = t.code
    both = t.joined(t.read(i, a, 32), t.read(i, b, 32), 32)
    selector = t.read(i, s, 32)
    result = "0"
    for k in range(4):
        if mode:
            # The choice of this byte for each of the four selectors, as nibbles of a table.
            table = sum(PRMT[mode][n][k] << (4 * n) for n in range(4))
            low = c.value(f"and i32 {selector}, 3")
            nibble = c.value(f"lshr i32 {table}, {c.value(f'shl i32 {low}, 2')}")
        else:
            nibble = c.value(f"lshr i32 {selector}, {4 * k}")
        place = c.value(f"shl i32 {c.value(f'and i32 {nibble}, 7')}, 3")
        byte = c.value(f"trunc i64 {c.value(f'lshr i64 {both}, {c.resized(place, 32, 64)}')} to i8")
        if not mode:
            spread = c.value(f"icmp ne i32 {c.value(f'and i32 {nibble}, 8')}, 0")
            byte = c.select(spread, "i8", c.value(f"ashr i8 {byte}, 7"), byte)
        placed = c.value(f"shl i32 {c.resized(byte, 8, 32)}, {8 * k}")
        result = c.value(f"or i32 {result}, {placed}")
    t.write(i, to, result, 32)


def lop3(t: Thread, i: Instruction) -> None:
    """Any function of three bits, by its table: bit 4a + 2b + c of it is the result."""
    m = Modifiers(i)
    m.last(("b32",))
    m.done()
    to, a, b, d, table = operands(i, 5)
    if not isinstance(table, Integer):
        raise unsupported(i, "a table that is no constant")
    c = t.code
    sources = [t.read(i, o, 32) for o in (a, b, d)]
    contrary = [c.value(f"xor i32 {x}, -1") for x in sources]
    result = "0"
    for row in range(8):
        if table.value >> row & 1:
            x, y, z = (
                s if row >> (2 - k) & 1 else n for k, (s, n) in enumerate(zip(sources, contrary, strict=True))
            )
            term = c.value(f"and i32 {c.value(f'and i32 {x}, {y}')}, {z}")
            result = c.value(f"or i32 {result}, {term}")
    t.write(i, to, result, 32)


def shf(t: Thread, i: Instruction) -> None:
    """A funnel shift of b:a: its upper half shifted left, its lower half shifted right."""
    m = Modifiers(i)
    m.last(("b32",))
    way, how = m.one_of(("l", "r")), m.one_of(("clamp", "wrap"))
    m.done()
    to, a, b, s = operands(i, 4)
    if not way or not how:
        raise unsupported(i)
    c = t.code
    both = t.joined(t.read(i, a, 32), t.read(i, b, 32), 32)
    amount = t.read(i, s, 32)
    amount = c.minimum("u", "i32", amount, "32") if how == "clamp" else c.value(f"and i32 {amount}, 31")
    amount = c.resized(amount, 32, 64)
    if way == "l":
        shifted = c.value(f"lshr i64 {c.value(f'shl i64 {both}, {amount}')}, 32")
    else:
        shifted = c.value(f"lshr i64 {both}, {amount}")
    t.write(i, to, c.resized(shifted, 64, 32), 32)


HANDLERS: Handlers = {
    "and": logic, "or": logic, "xor": logic, "not": invert, "cnot": invert, "shl": shift, "shr": shift,
    "bfe": bfe, "bfi": bfi, "brev": count, "popc": count, "clz": count, "bfind": bfind, "prmt": prmt,
    "lop3": lop3, "shf": shf,
}  # fmt: skip
