"""cvt: between integers and floating-point formats of every width, scalar and packed."""

from __future__ import annotations

from precision_lab.emulator.fast.code import FLOAT, Code
from precision_lab.emulator.fast.floats import flushed, saturated
from precision_lab.emulator.fast.formats import FORMATS, increment, narrowed, odd_float, widened
from precision_lab.emulator.fast.thread import WIDTHS, Handlers, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand

_INTEGERS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
_FLOATS = ("f16", "bf16", "f32", "f64")
_PAIRS = {f"{name}x2": name for name in ("f16", "bf16", "e4m3", "e5m2", "e2m3", "e3m2", "e2m1")}
_SMALL = ("e4m3x2", "e5m2x2", "e2m3x2", "e3m2x2", "e2m1x2")
_TO_INTEGER = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_MODES = ("rn", "rz", "rm", "rp", "rna")
_DIGITS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
_EXPONENTS = {"f16": 5, "bf16": 8, "f32": 8, "f64": 11}


def cvt(t: Thread, i: Instruction) -> None:
    m = Modifiers(i)
    to, of = (*i.modifiers[-2:], "", "")[:2]
    m.last((of,))
    m.last((to,))
    if to == "ue8m0x2":
        _to_scale(t, i, m, of)
    elif to in _PAIRS:
        _to_pair(t, i, m, to, of)
    elif to == "tf32" and of == "f32":
        _to_tf32(t, i, m)
    elif to in _INTEGERS and of in _INTEGERS:
        _integer_to_integer(t, i, m, to, of)
    elif to in _FLOATS and of in _INTEGERS:
        _integer_to_float(t, i, m, to, of)
    elif to in _INTEGERS and of in _FLOATS:
        _float_to_integer(t, i, m, to, of)
    elif to in _FLOATS and of in _FLOATS:
        _float_to_float(t, i, m, to, of)
    else:
        raise unsupported(i, f"from .{of} to .{to}")


# -- with integers ---------------------------------------------------------------------------------


def _integer_to_integer(t: Thread, i: Instruction, m: Modifiers, to: str, of: str) -> None:
    sat = m.flag("sat")
    m.done()
    destination, a = operands(i, 2)
    value, bits = t.read(i, a, WIDTHS[of], wider=True), WIDTHS[of]
    if sat:
        c, wide = t.code, 2 * max(WIDTHS[of], WIDTHS[to])
        value, bits = c.resized(value, bits, wide, signed=of[0] == "s"), wide
        least, most = (
            (-(1 << (WIDTHS[to] - 1)), (1 << (WIDTHS[to] - 1)) - 1)
            if to[0] == "s"
            else (0, (1 << WIDTHS[to]) - 1)
        )
        value = c.minimum("s", f"i{wide}", c.maximum("s", f"i{wide}", value, str(least)), str(most))
    value = t.code.resized(value, bits, WIDTHS[to], signed=of[0] == "s")
    t.write(i, destination, value, WIDTHS[to], wider=True, signed=to[0] == "s")


def _integer_to_float(t: Thread, i: Instruction, m: Modifiers, to: str, of: str) -> None:
    """Rounded as it says; below 2^65 nothing but f16 overflows."""
    mode, sat = m.one_of(_MODES[:4]), m.flag("sat")
    ftz = m.flag("ftz")  # no integer is subnormal
    m.done()
    if not mode or (sat and to == "bf16") or (ftz and to != "f32"):
        raise unsupported(i, f"from .{of} to .{to}")
    destination, a = operands(i, 2)
    c, signed = t.code, of[0] == "s"
    value = t.read(i, a, WIDTHS[of], wider=True)
    if to in ("f32", "f64"):
        name = FLOAT[WIDTHS[to]]
        if mode == "rn":
            result = c.cast("sitofp" if signed else "uitofp", f"i{WIDTHS[of]}", value, name)
        else:
            bits = _integer_as_float(
                c, c.resized(value, WIDTHS[of], 64, signed=signed), signed, WIDTHS[to], mode
            )
            result = c.to_float(bits, WIDTHS[to])
        t.write_float(i, destination, saturated(c, result, to) if sat else result, WIDTHS[to])
        return
    bits = _integer_as_float(c, c.resized(value, WIDTHS[of], 64, signed=signed), signed, 32, "odd")
    if sat:
        bits = c.to_bits(saturated(c, c.to_float(bits, 32), "f32"), 32)
    t.write(i, destination, c.resized(narrowed(c, bits, FORMATS[to], mode), 32, 16), 16)


def _integer_as_float(code: Code, value: str, signed: bool, width: int, mode: str) -> str:
    """An integer of 64 bits → the bits of a float or double, in a directed mode or rounded to odd."""
    digits, bias, n = (24, 127, "i32") if width == 32 else (53, 1023, "i64")

    def body(c: Code, a: str) -> str:
        negative = c.value(f"icmp slt i64 {a}, 0") if signed else "false"
        magnitude = c.select(negative, "i64", c.value(f"sub i64 0, {a}"), a)
        zeros = c.intrinsic("llvm.ctlz.i64", "i64", ("i64", magnitude), ("i1", "false"))
        front = c.value(f"shl i64 {magnitude}, {c.value(f'and i64 {zeros}, 63')}")
        kept = c.value(f"lshr i64 {front}, {64 - digits}")
        rest = c.value(f"and i64 {front}, {(1 << (64 - digits)) - 1}")
        sign = c.resized(negative, 1, 64)
        # The leading one adds 1 to the exponent's field, and a carry does.
        field = c.value(f"shl i64 {c.value(f'sub i64 {bias + 62}, {zeros}')}, {digits - 1}")
        found = c.value(f"add i64 {kept}, {field}")
        if mode == "odd":
            found = c.value(f"or i64 {found}, {c.resized(c.value(f'icmp ne i64 {rest}, 0'), 1, 64)}")
        else:
            up = increment(c, "i64", mode, kept, rest, str(1 << (63 - digits)), sign)
            found = c.value(f"add i64 {found}, {c.resized(up, 1, 64)}")
        found = c.value(f"or i64 {found}, {c.value(f'shl i64 {sign}, {width - 1}')}")
        found = c.select(c.value(f"icmp eq i64 {magnitude}, 0"), "i64", "0", found)
        return c.resized(found, 64, width)

    name = f"integer.{'s' if signed else 'u'}.{width}.{mode}"
    code.library.define(name, n, ["i64"], body)
    return code.call(name, n, ("i64", value))


def _float_to_integer(t: Thread, i: Instruction, m: Modifiers, to: str, of: str) -> None:
    """Clamped to the range. A NaN gives 0, but from f64 or to 64 bits the top bit alone (PTX ISA, cvt)."""
    mode, ftz, _ = m.one_of(_TO_INTEGER), m.flag("ftz"), m.flag("sat")
    m.done()
    if not mode or (ftz and of != "f32"):
        raise unsupported(i, f"from .{of} to .{to}")
    destination, a = operands(i, 2)
    c, width = t.code, WIDTHS[to]
    value, kind = _source(t, i, a, of, ftz)
    name = {"float": "f32", "double": "f64"}[kind]
    whole = c.intrinsic(f"llvm.{_TO_INTEGER[mode]}.{name}", kind, (kind, value))
    how = "si" if to[0] == "s" else "ui"
    found = c.intrinsic(f"llvm.fpto{how}.sat.i{width}.{name}", f"i{width}", (kind, whole))
    if of == "f64" or width == 64:
        found = c.select(
            c.value(f"fcmp uno {kind} {value}, {value}"), f"i{width}", str(1 << (width - 1)), found
        )
    t.write(i, destination, found, width, wider=True, signed=to[0] == "s")


# -- between floating-point formats ----------------------------------------------------------------


def _source(t: Thread, i: Instruction, a: Operand, of: str, ftz: bool) -> tuple[str, str]:
    """A source as a float or double, and which."""
    if of in ("f32", "f64"):
        value = t.read_float(i, a, WIDTHS[of])
        return (flushed(t.code, value) if ftz else value), FLOAT[WIDTHS[of]]
    bits = t.read(i, a, 16, wider=of == "f16")
    return widened(t.code, t.code.resized(bits, 16, 32), FORMATS[of]), "float"


def _float_to_float(t: Thread, i: Instruction, m: Modifiers, to: str, of: str) -> None:
    mode, whole = m.one_of(_MODES[:4]), m.one_of(_TO_INTEGER)
    ftz, sat, relu, satfinite = m.flag("ftz"), m.flag("sat"), m.flag("relu"), m.flag("satfinite")
    m.done()
    loses = _DIGITS[to] < _DIGITS[of] or _EXPONENTS[to] < _EXPONENTS[of]
    if (
        bool(mode) != loses
        or (whole and to != of)
        or (ftz and "f32" not in (to, of))
        or (sat and to == "bf16")
    ):
        raise unsupported(i, f"modifiers from .{of} to .{to}")
    if (relu or satfinite) and (of != "f32" or to not in FORMATS or mode not in ("rn", "rz") or sat or ftz):
        raise unsupported(i, f"modifiers from .{of} to .{to}")
    destination, a = operands(i, 2)
    c = t.code
    value, kind = _source(t, i, a, of, ftz and of == "f32")
    if whole:
        name = {"float": "f32", "double": "f64"}[kind]
        value = c.intrinsic(f"llvm.{_TO_INTEGER[whole]}.{name}", kind, (kind, value))
    if to == "f64":
        value = c.cast("fpext", kind, value, "double")
        t.write_float(i, destination, saturated(c, value, to) if sat else value, 64)
    elif to == "f32":
        if of == "f64" and mode != "rn":
            value = c.rounded("fptrunc", mode, "float", value, source="double")
        elif of == "f64":
            value = c.value(f"fptrunc double {value} to float")
        value = flushed(c, value) if ftz else value
        t.write_float(i, destination, saturated(c, value, to) if sat else value, 32)
    else:
        bits = odd_float(c, value) if of == "f64" else c.to_bits(value, 32)
        if sat:
            bits = c.to_bits(saturated(c, c.to_float(bits, 32), "f32"), 32)
        code = narrowed(c, bits, FORMATS[to], mode or "rn", satfinite=satfinite, relu=relu)
        t.write(i, destination, c.resized(code, 32, 16), 16, wider=to == "f16")


def _to_tf32(t: Thread, i: Instruction, m: Modifiers) -> None:
    """A float of which only the upper 19 bits are used; the others are 0 here, the manual does not say."""
    mode, relu, satfinite = m.one_of(("rna", "rn", "rz")), m.flag("relu"), m.flag("satfinite")
    m.done()
    if not mode or (relu and mode == "rna"):
        raise unsupported(i, "rounding to .tf32")
    destination, a = operands(i, 2)
    bits = t.code.to_bits(t.read_float(i, a, 32), 32)
    code = narrowed(t.code, bits, FORMATS["tf32"], mode, satfinite=satfinite, relu=relu)
    t.write(i, destination, t.code.value(f"shl i32 {code}, 13"), 32)


def _to_pair(t: Thread, i: Instruction, m: Modifiers, to: str, of: str) -> None:
    """Two numbers side by side, the first source in the upper half."""
    mode, relu, satfinite = m.one_of(("rn", "rz")), m.flag("relu"), m.flag("satfinite")
    m.done()
    c, fmt = t.code, FORMATS[_PAIRS[to]]
    if of == "ue8m0x2":
        if to != "bf16x2" or (mode, relu, satfinite) != ("rn", False, False):
            raise unsupported(i, f"from .{of} to .{to}")
        _from_scale(t, i)
        return
    if of == "f32":
        allowed = bool(mode) and (to in ("f16x2", "bf16x2") or (mode == "rn" and satfinite))
    elif of in ("f16x2", "bf16x2"):
        allowed = to in _SMALL and mode == "rn" and satfinite
    else:
        allowed = of in _SMALL and to == "f16x2" and mode == "rn" and not satfinite
    if not allowed:
        raise unsupported(i, f"from .{of} to .{to}")
    destination, *sources = operands(i, 3 if of == "f32" else 2)
    if of == "f32":
        floats = [c.to_bits(t.read_float(i, s, 32), 32) for s in reversed(sources)]
    else:
        own = FORMATS[_PAIRS[of]]
        place = 4 if of == "e2m1x2" else max(own.bits, 8)
        packed = t.read(i, sources[0], 2 * place, wider=place == 4)
        halves = [c.resized(h, place, 32) for h in t.halves(packed, 2 * place)]
        if own.bits == 6:
            halves = [c.value(f"and i32 {h}, 63") for h in halves]
        floats = [c.to_bits(widened(c, h, own), 32) for h in halves]
    codes = [narrowed(c, f, fmt, mode, satfinite=satfinite, relu=relu) for f in floats]
    place = 4 if to == "e2m1x2" else max(fmt.bits, 8)
    low, high = (c.resized(code, 32, place) for code in codes)
    t.write(i, destination, t.joined(low, high, place), 2 * place, wider=place == 4)


# -- powers of two ---------------------------------------------------------------------------------


def _to_scale(t: Thread, i: Instruction, m: Modifiers, of: str) -> None:
    """To ue8m0, 2^(code - 127): the magnitude rounded to a power of two. 0xff is NaN, and without .satfinite
    what is too large."""
    mode, satfinite = m.one_of(("rz", "rp")), m.flag("satfinite")
    m.done()
    if not mode or of not in ("f32", "bf16x2"):
        raise unsupported(i, f"from .{of} to .ue8m0x2")
    destination, *sources = operands(i, 3 if of == "f32" else 2)
    c = t.code
    if of == "f32":
        floats = [t.read(i, s, 32) for s in reversed(sources)]
    else:
        halves = t.halves(t.read(i, sources[0], 32), 32)
        floats = [c.value(f"shl i32 {c.resized(h, 16, 32)}, 16") for h in halves]

    def body(code: Code, a: str) -> str:
        magnitude = code.value(f"and i32 {a}, {0x7FFFFFFF}")
        found = code.value(f"lshr i32 {magnitude}, 23")
        if mode == "rp":
            # Up to 2^-127, half of the least normal number, is code 0; all below have field 0, too.
            rest = code.value(f"icmp ne i32 {code.value(f'and i32 {magnitude}, {0x7FFFFF}')}, 0")
            above = code.value(f"icmp ugt i32 {magnitude}, {0x400000}")
            finite = code.value(f"icmp ult i32 {magnitude}, {0x7F800000}")
            up = code.value(f"and i1 {code.value(f'and i1 {rest}, {above}')}, {finite}")
            found = code.value(f"add i32 {found}, {code.resized(up, 1, 32)}")
        if satfinite:
            number = code.value(f"icmp ule i32 {magnitude}, {0x7F800000}")
            found = code.select(number, "i32", code.minimum("u", "i32", found, "254"), found)
        return found

    name = f"narrow.ue8m0.{mode}{'.satfinite' * satfinite}"
    c.library.define(name, "i32", ["i32"], body)
    low, high = (c.resized(c.call(name, "i32", ("i32", f)), 32, 8) for f in floats)
    t.write(i, destination, t.joined(low, high, 8), 16)


def _from_scale(t: Thread, i: Instruction) -> None:
    """From ue8m0: code 0 is 2^-127, which is subnormal in bf16; 0xff is NaN."""
    destination, a = operands(i, 2)
    c, found = t.code, []
    for half in t.halves(t.read(i, a, 16), 16):
        placed = c.value(f"shl i16 {c.resized(half, 8, 16)}, 7")
        placed = c.select(c.value(f"icmp eq i8 {half}, 0"), "i16", str(0x40), placed)
        found.append(c.select(c.value(f"icmp eq i8 {half}, -1"), "i16", str(0x7FFF), placed))
    t.write(i, destination, t.joined(found[0], found[1], 16), 32)


HANDLERS: Handlers = {"cvt": cvt}
