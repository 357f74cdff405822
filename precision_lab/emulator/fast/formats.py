"""Floating-point formats of 19 bits and fewer: from float and double to them, and back.

All narrowing goes through a float that is "rounded to odd": exact, or else the neighbour with an odd last
bit. Rounding it once more, to at most 22 of its 24 digits, gives what rounding the exact value would (Boldo
and Melquiond, "Emulation of FMA and correctly rounded sums", 2008): none is lost, and none made a tie.
"""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.emulator.fast.code import Code

NAN = {32: 0x7FFFFFFF, 64: 0x7FF8000000000000}  # canonical: what arithmetic gives


@dataclass(frozen=True)
class Format:
    """A format narrower than float, by its codes without sign.

    Attributes:
        bits: with the sign.
        fraction: bits behind the leading one.
        emin: least exponent of a normal number.
        largest: the code of the largest finite number.
        infinity: the code of infinity; None where there is none, and overflow saturates.
        nan: the code that a NaN becomes.
    """

    name: str
    bits: int
    fraction: int
    emin: int
    largest: int
    infinity: int | None
    nan: int


FORMATS = {
    f.name: f
    for f in (
        Format("f16", 16, 10, -14, 0x7BFF, 0x7C00, 0x7FFF),
        Format("bf16", 16, 7, -126, 0x7F7F, 0x7F80, 0x7FFF),
        # A tf32 is the upper part of a float; its NaN is the float's, all ones.
        Format("tf32", 19, 10, -126, 0x3FBFF, 0x3FC00, 0x3FFFF),
        Format("e5m2", 8, 2, -14, 0x7B, 0x7C, 0x7F),
        Format("e4m3", 8, 3, -6, 0x7E, None, 0x7F),
        # Without a code for NaN: "converted to positive MAX_NORM" (PTX ISA, cvt, .satfinite).
        Format("e3m2", 6, 2, -2, 0x1F, None, 0x1F),
        Format("e2m3", 6, 3, 0, 0x1F, None, 0x1F),
        Format("e2m1", 4, 1, 0, 0x7, None, 0x7),
    )
}


def odd_double(code: Code, total: str, error: str) -> str:
    """A sum rounded to nearest, and the rest that makes it exact → the exact sum, rounded to odd."""

    def body(c: Code, s: str, e: str) -> str:
        bits = c.to_bits(s, 64)
        # The rest points toward zero where its sign is not the sum's.
        toward_zero = c.value(f"icmp slt i64 {c.value(f'xor i64 {bits}, {c.to_bits(e, 64)}')}, 0")
        cut = c.value(f"sub i64 {bits}, {c.resized(toward_zero, 1, 64)}")
        odd = c.value(f"or i64 {cut}, 1")
        # Of an infinite sum the rest is NaN: neither larger nor less than zero.
        inexact = c.value(f"fcmp one double {e}, {c.constant(0, 64)}")
        return c.to_float(c.select(inexact, "i64", odd, bits), 64)

    code.library.define("odd_double", "double", ["double", "double"], body)
    return code.call("odd_double", "double", ("double", total), ("double", error))


def odd_float(code: Code, value: str) -> str:
    """A double → the bits of a float, rounded to odd. Beyond the range: the largest float, which is odd."""

    def body(c: Code, d: str) -> str:
        near = c.value(f"fptrunc double {d} to float")
        back = c.value(f"fpext float {near} to double")
        bits = c.to_bits(near, 32)
        beyond = c.value(f"fcmp ogt double {c.fabs(back, 'double')}, {c.fabs(d, 'double')}")
        cut = c.value(f"sub i32 {bits}, {c.resized(beyond, 1, 32)}")
        odd = c.value(f"or i32 {cut}, 1")
        inexact = c.value(f"fcmp one double {back}, {d}")
        return c.select(inexact, "i32", odd, bits)

    code.library.define("odd_float", "i32", ["double"], body)
    return code.call("odd_float", "i32", ("double", value))


def narrowed(
    code: Code, bits: str, to: Format, mode: str, *, satfinite: bool = False, relu: bool = False
) -> str:
    """The bits of a float, exact or rounded to odd → a code of the format, as an i32.

    Args:
        mode: rn, rna (ties away from zero), rz, rm or rp.
        satfinite: what is too large, infinity too, becomes the largest number.
        relu: what is negative becomes +0.
    """
    satfinite = satfinite or to.infinity is None
    name = f"narrow.{to.name}.{mode}{'.satfinite' * satfinite}{'.relu' * relu}"

    def body(c: Code, a: str) -> str:
        magnitude = c.value(f"and i32 {a}, {0x7FFFFFFF}")
        sign = c.value(f"lshr i32 {a}, 31")
        if to.name == "bf16" and mode == "rn" and not satfinite:
            # Half of the last place is added, less one unless the last bit is 1: ties go to even. A carry
            # goes into the exponent, up to infinity, as it should.
            last = c.value(f"and i32 {c.value(f'lshr i32 {magnitude}, 16')}, 1")
            half = c.value(f"add i32 {c.value(f'add i32 {magnitude}, {last}')}, {0x7FFF}")
            code_ = c.value(f"lshr i32 {half}, 16")
        else:
            code_ = _rounded_code(c, magnitude, sign, to, mode, satfinite)
        is_nan = c.value(f"icmp ugt i32 {magnitude}, {0x7F800000}")
        placed = c.value(f"shl i32 {sign}, {to.bits - 1}")
        signed = c.value(f"or i32 {code_}, {placed}")
        if relu:
            signed = c.select(c.value(f"icmp eq i32 {sign}, 1"), "i32", "0", signed)
        return c.select(is_nan, "i32", str(to.nan), signed)

    code.library.define(name, "i32", ["i32"], body)
    return code.call(name, "i32", ("i32", bits))


def increment(c: Code, kind: str, mode: str, kept: str, rest: str, half: str, sign: str) -> str:
    """Whether a magnitude cut to `kept` goes up, as an i1; `sign` is 1 for negative, of type `kind`."""
    if mode == "rz":
        return "false"
    if mode == "rna":
        return c.value(f"icmp uge {kind} {rest}, {half}")
    if mode == "rn":
        more = c.value(f"icmp ugt {kind} {rest}, {half}")
        tie = c.value(f"icmp eq {kind} {rest}, {half}")
        odd = c.value(f"trunc {kind} {kept} to i1")
        return c.value(f"or i1 {more}, {c.value(f'and i1 {tie}, {odd}')}")
    inexact = c.value(f"icmp ne {kind} {rest}, 0")
    negative = c.value(f"icmp {'ne' if mode == 'rm' else 'eq'} {kind} {sign}, 0")
    return c.value(f"and i1 {inexact}, {negative}")


def overflow_code(c: Code, to: Format, mode: str, sign: str, satfinite: bool) -> str:
    """The code of what is finite and beyond the range."""
    if satfinite or mode == "rz" or to.infinity is None:
        return str(to.largest)
    if mode in ("rn", "rna"):
        return str(to.infinity)
    away = c.value(f"icmp {'ne' if mode == 'rm' else 'eq'} i32 {sign}, 0")
    return c.select(away, "i32", str(to.infinity), str(to.largest))


def _rounded_code(c: Code, magnitude: str, sign: str, to: Format, mode: str, satfinite: bool) -> str:
    field = c.value(f"lshr i32 {magnitude}, 23")
    is_normal = c.value(f"icmp ne i32 {field}, 0")
    exponent = c.maximum("u", "i32", field, "1")
    fraction = c.value(f"and i32 {magnitude}, {0x7FFFFF}")
    leading = c.value(f"shl i32 {c.resized(is_normal, 1, 32)}, 23")
    significand = c.value(f"or i32 {fraction}, {leading}")
    lowest = to.emin + 127
    # Below the format's least normal number, each binade loses a digit; after 31 none is left.
    below = c.maximum("s", "i32", c.value(f"sub i32 {lowest}, {exponent}"), "0")
    shift = c.minimum("u", "i32", c.value(f"add i32 {below}, {23 - to.fraction}"), "31")
    kept = c.value(f"lshr i32 {significand}, {shift}")
    one = c.value(f"shl i32 1, {shift}")
    rest = c.value(f"and i32 {significand}, {c.value(f'sub i32 {one}, 1')}")
    half = c.value(f"lshr i32 {one}, 1")
    up = increment(c, "i32", mode, kept, rest, half, sign)
    kept = c.value(f"add i32 {kept}, {c.resized(up, 1, 32)}")
    # The leading one adds 1 to the exponent's field; of a subnormal number there is none. A carry does, too.
    above = c.maximum("s", "i32", c.value(f"sub i32 {exponent}, {lowest}"), "0")
    found = c.value(f"add i32 {kept}, {c.value(f'shl i32 {above}, {to.fraction}')}")
    too_large = c.value(f"icmp ugt i32 {found}, {to.largest}")
    found = c.select(too_large, "i32", overflow_code(c, to, mode, sign, satfinite), found)
    if satfinite:
        return found
    is_infinite = c.value(f"icmp eq i32 {magnitude}, {0x7F800000}")
    return c.select(is_infinite, "i32", str(to.infinity), found)


def widened(code: Code, value: str, of: Format) -> str:
    """A code in an i32 → a float of the same value. NaN stays NaN."""

    def body(c: Code, a: str) -> str:
        magnitude = c.value(f"and i32 {a}, {(1 << (of.bits - 1)) - 1}")
        sign = c.value(f"shl i32 {c.value(f'lshr i32 {a}, {of.bits - 1}')}, 31")
        # Read as a float's, the code has exponents too small by 127 less the format's bias, 1 - emin; the
        # product with that power of two is exact, and makes normal numbers of subnormal ones.
        as_float = c.to_float(c.value(f"shl i32 {magnitude}, {23 - of.fraction}"), 32)
        scaled = c.value(f"fmul float {as_float}, {c.constant((127 + 126 + of.emin) << 23, 32)}")
        bits = c.to_bits(scaled, 32)
        if of.infinity is not None:
            special = c.value(f"icmp uge i32 {magnitude}, {of.infinity}")
            bits = c.select(special, "i32", c.value(f"or i32 {bits}, {0x7F800000}"), bits)
        elif of.nan > of.largest:
            bits = c.select(c.value(f"icmp eq i32 {magnitude}, {of.nan}"), "i32", str(NAN[32]), bits)
        return c.to_float(c.value(f"or i32 {bits}, {sign}"), 32)

    if of.name == "bf16":
        return code.to_float(code.value(f"shl i32 {value}, 16"), 32)
    name = f"widen.{of.name}"
    code.library.define(name, "float", ["i32"], body)
    return code.call(name, "float", ("i32", value))
