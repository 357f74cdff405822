"""Loads, stores, and values that are moved: every access of memory is checked before it is made.

A device's address is the host's. Beside each byte of memory lies its state, and one look at the states of all
bytes of an access tells whether it is allowed: 0 is not allocated, 1 allocated, 3 written.
"""

from __future__ import annotations

from precision_lab.emulator.fast.thread import WIDTHS, Handlers, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.memory import ALLOCATED, WRITTEN
from precision_lab.emulator.ptx import Address, Instruction, Integer, Operand, Symbol, Vector

READ, WRITE, STEPS, WAIT = range(4)  # what failed

_TYPES = (
    "b8", "b16", "b32", "b64", "b128", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f32", "f64",
)  # fmt: skip
# Hints to caches, and an ordering among accesses of one address that one thread after the other has anyway.
_HINTS = (
    "weak", "volatile", "relaxed", "cta", "cluster", "gpu", "sys",
    "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc",
    "L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate",
    *(f"L2::{what}" for what in ("evict_normal", "evict_first", "evict_last", "64B", "128B", "256B")),
)  # fmt: skip
_SPACES = ("global", "const", "local", "param", "param::entry", "generic")


def _ones(size: int, state: int) -> str:
    return f"<{', '.join([f'i8 {state}'] * size)}>"


def checked(t: Thread, i: Instruction, address: str, size: int, *, write: bool) -> None:
    """Leaves for the fault unless all bytes may be read, or written."""
    c = t.code
    offset = c.value(f"sub i64 {address}, %base")
    # Rotated by the alignment, what is misaligned is beyond the end, too.
    shift = size.bit_length() - 1
    rotated = c.intrinsic("llvm.fshr.i64", "i64", ("i64", offset), ("i64", offset), ("i64", str(shift)))
    inside = c.value(f"icmp ult i64 {rotated}, {c.value(f'lshr i64 %size, {shift}')}")
    look, access, failed = c.label("look"), c.label("access"), c.label("failed")
    c.do(f"br i1 {inside}, label %{look}, label %{failed}, !prof !1")
    c.place(look)
    place = c.value(f"getelementptr i8, ptr %states.p, i64 {offset}")
    kind = f"<{size} x i8>"
    number = f"i{8 * size}"
    states = c.value(f"bitcast {kind} {c.value(f'load {kind}, ptr {place}, align {size}')} to {number}")
    written = int.from_bytes(bytes([WRITTEN]) * size, "little")
    is_written = c.value(f"icmp eq {number} {states}, {written}")
    if not write:
        c.do(f"br i1 {is_written}, label %{access}, label %{failed}, !prof !1")
    else:
        other, mark = c.label("other"), c.label("mark")
        c.do(f"br i1 {is_written}, label %{access}, label %{other}")
        c.place(other)
        allocated = int.from_bytes(bytes([ALLOCATED]) * size, "little")
        free = c.value(f"icmp eq {number} {c.value(f'and {number} {states}, {allocated}')}, {allocated}")
        c.do(f"br i1 {free}, label %{mark}, label %{failed}, !prof !1")
        c.place(mark)
        c.do(f"store {kind} {_ones(size, WRITTEN)}, ptr {place}, align {size}")
        c.do(f"br label %{access}")
    c.place(failed)
    fail(t, WRITE if write else READ, address, size)
    c.place(access)


def fail(t: Thread, kind: int, address: str, size: int) -> None:
    """Says what, where and who, and ends the launch."""
    arguments = f"ptr %result, i64 {kind}, i64 {t.index}, i64 {address}, i64 {size}, i64 %block, i64 %thread"
    t.code.do(f"call void @fail({arguments})")
    t.code.do("br label %stop")


def _address(t: Thread, i: Instruction, operand: Operand) -> str:
    if not isinstance(operand, Address):
        raise unsupported(i, f"{operand} as an address")
    base = str(operand.base.value) if isinstance(operand.base, Integer) else t.read(i, operand.base, 64)
    return t.code.value(f"add i64 {base}, {operand.offset}") if operand.offset else base


def _shape(i: Instruction, m: Modifiers, operand: Operand) -> tuple[str, list[Operand]]:
    """The type of one number, and the registers of all."""
    kind = m.last(_TYPES)
    vector = m.one_of(("v2", "v4", "v8"))
    m.drop(_HINTS)
    m.done()
    items: list[Operand] = [*operand.items] if isinstance(operand, Vector) else [operand]
    size = WIDTHS[kind] // 8 * len(items)
    if len(items) != (int(vector[1]) if vector else 1) or size > 32:
        raise unsupported(i, f"{len(items)} registers of .{kind}")
    return kind, items


def ld(t: Thread, i: Instruction) -> None:
    """ld and ld.global.nc; a register that is wider than the number is filled with zeros or its sign."""
    m = Modifiers(i)
    space, hint = m.one_of(_SPACES), m.flag("L2::cache_hint")
    to, address, *_ = operands(i, 3 if hint else 2)
    kind, items = _shape(i, m, to)
    c, bits, signed = t.code, WIDTHS[kind], kind[0] == "s"
    size, element = bits // 8 * len(items), f"i{bits}"
    whole = element if len(items) == 1 else f"<{len(items)} x {element}>"
    if space in ("param", "param::entry"):
        place = _parameter(t, i, address, size)
        value = c.value(f"load {whole}, ptr {place}, align 1, !invariant.load !0")
    else:
        at = _address(t, i, address)
        checked(t, i, at, size, write=False)
        value = c.value(f"load {whole}, ptr {c.value(f'inttoptr i64 {at} to ptr')}, align {size}")
    for k, item in enumerate(items):
        part = value if len(items) == 1 else c.value(f"extractelement {whole} {value}, i32 {k}")
        t.write(i, item, part, bits, wider=True, signed=signed)


def st(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    m.one_of(("global", "local", "generic"))
    address, source, *_ = operands(i, 3 if m.flag("L2::cache_hint") else 2)
    kind, items = _shape(i, m, source)
    c, bits = t.code, WIDTHS[kind]
    size, element = bits // 8 * len(items), f"i{bits}"
    values = [t.read(i, item, bits, wider=True) for item in items]
    at = _address(t, i, address)
    checked(t, i, at, size, write=True)
    whole, value = element, values[0]
    if len(items) > 1:
        whole, value = f"<{len(items)} x {element}>", "poison"
        for k, each in enumerate(values):
            value = c.value(f"insertelement {whole} {value}, {element} {each}, i32 {k}")
    c.do(f"store {whole} {value}, ptr {c.value(f'inttoptr i64 {at} to ptr')}, align {size}")


def _parameter(t: Thread, i: Instruction, operand: Operand, size: int) -> str:
    if isinstance(operand, Address) and isinstance(operand.base, Symbol):
        for parameter in t.kernel.parameters:
            if parameter.name == operand.base.name:
                if 0 <= operand.offset <= parameter.size - size:
                    at = parameter.offset + operand.offset
                    return t.code.value(f"getelementptr i8, ptr %parameters, i64 {at}")
                raise unsupported(i, f"beyond the {parameter.size} bytes of the parameter")
    raise unsupported(i, "a parameter by its address")


def mov(t: Thread, i: Instruction) -> None:
    """A value, or registers packed into one or unpacked."""
    m = Modifiers(i)
    kind = m.last(("pred", *_TYPES))
    m.done()
    to, a = operands(i, 2)
    c, width = t.code, WIDTHS[kind]
    if kind == "pred":
        t.write_predicate(i, to, t.read_predicate(i, a))
    elif isinstance(to, Vector):
        part = width // len(to.items)
        value = t.read(i, a, width)
        for k, item in enumerate(to.items):
            shifted = c.value(f"lshr i{width} {value}, {k * part}")
            t.write(i, item, c.resized(shifted, width, part), part, wider=part == 8)
    elif isinstance(a, Vector):
        part, value = width // len(a.items), "0"
        for k, item in enumerate(a.items):
            bits = c.resized(t.read(i, item, part, wider=part == 8), part, width)
            value = c.value(f"or i{width} {value}, {c.value(f'shl i{width} {bits}, {k * part}')}")
        t.write(i, to, value, width)
    else:
        t.write(i, to, t.read(i, a, width), width)


def cvta(t: Thread, i: Instruction) -> None:
    """Generic addresses are those of global, constant and local memory, all in one arena."""
    m = Modifiers(i)
    m.last(("u64",))
    m.flag("to")
    space = m.one_of(("global", "const", "local"))
    m.done()
    if not space:
        raise unsupported(i, "of that state space")
    to, a = operands(i, 2)
    t.write(i, to, t.read(i, a, 64), 64)


def createpolicy(t: Thread, i: Instruction) -> None:
    """A hint to caches, made of numbers that only hints are given."""
    m = Modifiers(i)
    m.last(("b64",))
    m.one_of(("fractional",))
    primary = m.one_of(
        [f"L2::{what}" for what in ("evict_last", "evict_normal", "evict_first", "evict_unchanged")]
    )
    m.drop(("L2::evict_first", "L2::evict_unchanged"))
    m.done()
    if not primary or "fractional" not in i.modifiers:
        raise unsupported(i)
    t.write(i, operands(i, 2, 3)[0], "0", 64)


HANDLERS: Handlers = {"ld": ld, "st": st, "mov": mov, "cvta": cvta, "createpolicy": createpolicy}
