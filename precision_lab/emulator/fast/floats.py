"""Floating-point arithmetic: every operation rounds once, as its modifiers say.

float and double are the processor's own, to nearest; the other modes are in `Code.rounded`. Of the formats of
16 bits the exact result is made in double, or close enough to it, and rounded once (`formats`):

- sums in float: 24 digits are at least 2·11 + 2, so rounding again changes nothing (Figueroa, "When is double
  rounding innocuous?", 1995); what is subnormal in f16 or bf16 is a sum without any rounding.
- products in double, exact: at most 22 digits, and exponents down to 2^-266.
- fma: the exact product and the addend, whose sum double cannot always hold; so it is rounded to odd, by what
  the sum of two doubles leaves (Knuth's two-sum, exact: nothing overflows or underflows here).

.ftz takes subnormal sources as zeros and makes zeros of subnormal results, keeping signs; whether a result is
subnormal is asked after it was rounded. What NaN arithmetic gives is canonical: 0x7fffffff, 0x7fff, and in
f64, of which the manual says nothing, 0x7ff8000000000000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from precision_lab.emulator.fast.code import FLOAT, Code
from precision_lab.emulator.fast.formats import FORMATS, narrowed, odd_double, odd_float, widened
from precision_lab.emulator.fast.thread import WIDTHS, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand

FLOATS = ("f32", "f64", "f32x2", "f16", "f16x2", "bf16", "bf16x2")
MODES = ("rn", "rz", "rm", "rp")
_LEAST_NORMAL = {"f32": 1 << 23, "f16": (127 - 14) << 23}  # as a float's bits

Operation = Callable[[Code, Sequence[str]], str]


def flushed(c: Code, value: str, kind: str = "f32") -> str:
    """A float, or zero of its sign where it is below the format's least normal number."""
    least = _LEAST_NORMAL[kind]

    def body(code: Code, x: str) -> str:
        bits = code.to_bits(x, 32)
        small = code.value(f"fcmp olt float {code.fabs(x, 'float')}, {code.constant(least, 32)}")
        zero = code.value(f"and i32 {bits}, {-(1 << 31)}")
        return code.to_float(code.select(small, "i32", zero, bits), 32)

    c.library.define(f"flush.{kind}", "float", ["float"], body)
    return c.call(f"flush.{kind}", "float", ("float", value))


def saturated(c: Code, value: str, kind: str) -> str:
    """A number clamped to [+0, 1]; a NaN becomes +0."""
    zero, one = (
        c.constant(bits, WIDTHS[kind]) for bits in ((0, 127 << 23) if kind == "f32" else (0, 1023 << 52))
    )
    name = FLOAT[WIDTHS[kind]]
    positive = c.select(c.value(f"fcmp ogt {name} {value}, {zero}"), name, value, zero)
    return c.select(c.value(f"fcmp olt {name} {positive}, {one}"), name, positive, one)


# -- one operation on float or double -----------------------------------------------------------------


def _basic(opcode: str, mode: str, name: str) -> Operation:
    """add, sub, mul, fma, div, sqrt or rcp of float or double."""
    short = "f32" if name == "float" else "f64"

    def operation(c: Code, values: Sequence[str]) -> str:
        operator = {"rcp": "div"}.get(opcode, opcode)
        if opcode == "rcp":
            values = [
                c.constant(127 << 23 if name == "float" else 1023 << 52, 32 if name == "float" else 64),
                *values,
            ]
        if mode != "rn":
            llvm = operator if operator in ("fma", "sqrt") else f"f{operator}"
            return c.rounded(llvm, mode, name, *values)
        if operator in ("fma", "sqrt"):
            return c.intrinsic(f"llvm.{operator}.{short}", name, *[(name, v) for v in values])
        return c.value(f"f{operator} {name} {values[0]}, {values[1]}")

    return operation


def _sixteen(c: Code, opcode: str, kind: str, values: Sequence[str]) -> str:
    """add, sub, mul or fma of floats that hold f16 or bf16 → the bits of a float, rounded to odd or exact."""
    if opcode in ("add", "sub"):
        return c.to_bits(c.value(f"f{opcode} float {values[0]}, {values[1]}"), 32)
    wide = [c.value(f"fpext float {v} to double") for v in values]
    product = c.value(f"fmul double {wide[0]}, {wide[1]}")
    if opcode == "mul":
        return odd_float(c, product)
    addend = wide[2]
    total = c.value(f"fadd double {product}, {addend}")
    part = c.value(f"fsub double {total}, {product}")
    lost = c.value(f"fsub double {product}, {c.value(f'fsub double {total}, {part}')}")
    rest = c.value(f"fadd double {lost}, {c.value(f'fsub double {addend}, {part}')}")
    return odd_float(c, odd_double(c, total, rest))


def on_sixteen(t: Thread, i: Instruction, kind: str, sources: Sequence[Operand], body: Operation) -> None:
    """Applies `body`, from codes in i32 to a code in an i32, to a number of 16 bits or to both of a pair."""
    c = t.code
    width = WIDTHS[kind]
    bits = [t.read(i, s, width) for s in sources]
    if width == 16:
        t.write(i, i.operands[0], c.resized(body(c, [c.resized(b, 16, 32) for b in bits]), 32, 16), 16)
        return
    parts = [t.halves(b, 32) for b in bits]
    low, high = (c.resized(body(c, [c.resized(p[k], 16, 32) for p in parts]), 32, 16) for k in (0, 1))
    t.write(i, i.operands[0], t.joined(low, high, 16), 32)


def _on_pair(t: Thread, i: Instruction, sources: Sequence[Operand], body: Operation) -> None:
    """Applies `body` to both floats of pairs in 64 bits."""
    c = t.code
    parts = [t.halves(t.read(i, s, 64), 64) for s in sources]
    low, high = (t.canonical(body(c, [c.to_float(p[k], 32) for p in parts]), 32) for k in (0, 1))
    t.write(i, i.operands[0], t.joined(low, high, 32), 64)


def arithmetic(t: Thread, i: Instruction) -> None:
    """add, sub, mul, fma and mad, div, rcp and sqrt with a rounding mode."""
    m = Modifiers(i)
    kind = m.last(FLOATS)
    if kind in ("f16", "bf16") and "f32" in i.modifiers:
        _mixed(t, i, m, kind)
        return
    mode, ftz, sat, relu = m.one_of(MODES), m.flag("ftz"), m.flag("sat"), m.flag("relu")
    m.done()
    opcode = "fma" if i.opcode == "mad" else i.opcode
    _, *sources = operands(i, {"fma": 4, "rcp": 2, "sqrt": 2}.get(opcode, 3))
    plain = kind in ("f32", "f64", "f32x2")
    if not mode and opcode not in ("add", "sub", "mul"):
        raise unsupported(i, "without a rounding mode")
    if not plain:
        if i.opcode == "mad" or opcode in ("div", "rcp", "sqrt") or mode not in ("", "rn"):
            raise unsupported(i, f"of .{kind}")
        if (ftz or sat) and kind.startswith("bf16"):
            raise unsupported(i, f"{'.ftz' if ftz else '.sat'} of .{kind}")
        if relu and (opcode != "fma" or sat):
            raise unsupported(i, ".relu")
        on_sixteen(t, i, kind, sources, _sixteen_body(opcode, kind.removesuffix("x2"), ftz, sat, relu))
        return
    if (
        relu
        or (kind != "f32" and sat)
        or (kind == "f64" and ftz)
        or (kind == "f32x2" and opcode in ("div", "rcp", "sqrt"))
    ):
        raise unsupported(i, f"modifiers of .{kind}")
    name = "double" if kind == "f64" else "float"
    basic = _basic(opcode, mode or "rn", name)

    def body(c: Code, values: Sequence[str]) -> str:
        result = basic(c, [flushed(c, v) for v in values] if ftz else values)
        result = flushed(c, result) if ftz else result
        return saturated(c, result, kind) if sat else result

    if kind == "f32x2":
        _on_pair(t, i, sources, body)
    else:
        width = WIDTHS[kind]
        t.write_float(i, i.operands[0], body(t.code, [t.read_float(i, s, width) for s in sources]), width)


def _mixed(t: Thread, i: Instruction, m: Modifiers, kind: str) -> None:
    """add, sub and fma of f32 whose first source, of fma the first two, is of 16 bits."""
    m.last(("f32",))
    mode, sat = m.one_of(MODES), m.flag("sat")
    m.done()
    if i.opcode not in ("add", "sub", "fma") or (i.opcode == "fma" and not mode):
        raise unsupported(i)
    to, *sources = operands(i, 4 if i.opcode == "fma" else 3)
    c = t.code
    values = [widened(c, c.resized(t.read(i, s, 16), 16, 32), FORMATS[kind]) for s in sources[:-1]]
    values.append(t.read_float(i, sources[-1], 32))
    result = _basic(i.opcode, mode or "rn", "float")(c, values)
    t.write_float(i, to, saturated(c, result, "f32") if sat else result, 32)


def _sixteen_body(opcode: str, kind: str, ftz: bool, sat: bool, relu: bool) -> Operation:
    fmt = FORMATS[kind]

    def body(c: Code, codes: Sequence[str]) -> str:
        values = [widened(c, x, fmt) for x in codes]
        if ftz:
            values = [flushed(c, v, kind) for v in values]
        bits = _sixteen(c, opcode, kind, values)
        if sat:  # clamping first changes nothing: rounding keeps order, and 0 and 1
            bits = c.to_bits(saturated(c, c.to_float(bits, 32), "f32"), 32)
        code = narrowed(c, bits, fmt, "rn", relu=relu)
        if not ftz:
            return code
        small = c.value(f"icmp ult i32 {c.value(f'and i32 {code}, {0x7FFF}')}, {1 << fmt.fraction}")
        return c.select(small, "i32", c.value(f"and i32 {code}, {0x8000}"), code)

    return body
