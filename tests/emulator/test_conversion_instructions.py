"""cvt against fractions, and against ml_dtypes and gfloat where they know the format."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Any

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
from exact_numbers import FORMATS, Binary, Number, finite
from one_instruction import each_engine, run
from test_floating_point import MODES, UNSIGNED, check, sources
from test_integer_instructions import clamped, signed, values

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Engine

Array = np.ndarray[Any, Any]
EVERY = np.arange(1 << 16, dtype=np.uint16)
INTEGERS = [f"{s}{w}" for s in "us" for w in (8, 16, 32, 64)]
WHOLE = {"rni": "rn", "rzi": "rz", "rmi": "rm", "rpi": "rp"}


def numbers(kind: str) -> Array:
    """Every number of 16 bits, or some of more."""
    if FORMATS[kind].width == 16:
        return EVERY[::29]
    (found,) = sources(FORMATS[kind], 1, seed=41)
    if kind == "f64":  # whose results in narrower formats are neither all zero nor all infinite
        random = np.random.default_rng(42)
        near = (random.standard_normal(300) * 2.0 ** random.integers(-155, 130, 300)).view(np.uint64)
        ties = (np.arange(1, 200, dtype=np.float32) * np.float32(2**-149)).astype(np.float64) * 1.5
        return np.concatenate([found, near, ties.view(np.uint64)])
    random = np.random.default_rng(43)
    near = (random.standard_normal(300) * 2.0 ** random.integers(-30, 20, 300)).astype(np.float32)
    # Ties of the formats of 16 bits, and their neighbours.
    ties = np.concatenate(
        [
            (EVERY[::521].astype(np.uint32) << s) + np.uint32((1 << (s - 1)) + d)
            for s in (13, 16)
            for d in (-1, 0, 1)
        ]
    )
    return np.concatenate([found, near.view(np.uint32), ties.astype(np.uint32)])


def whole(value: Number, mode: str) -> Number:
    """A number rounded to an integer; zero keeps the sign."""
    if value.kind != "finite":
        return value
    floor, rest = divmod(value.magnitude, 1)
    up = {
        "rz": False, "rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1),
        "rm": rest > 0 and value.sign == 1, "rp": rest > 0 and value.sign == 0,
    }[mode]  # fmt: skip
    return finite(value.sign, Fraction(floor + up))


def expect(a: Array, of: Binary, to: Binary, mode: str, *, satfinite: bool = False) -> Array:
    return np.array(_expect(tuple(a.tolist()), of, to, mode, satfinite), UNSIGNED[to.width])


@cache
def _expect(a: tuple[int, ...], of: Binary, to: Binary, mode: str, satfinite: bool) -> list[int]:
    return [to.bits(of.number(v), mode, satfinite=satfinite) for v in a]


@each_engine
@pytest.mark.parametrize("to", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("of", ["f16", "bf16", "f32", "f64"])
def test_floats_are_rounded_once_or_widened(engine: Engine, to: str, of: str) -> None:
    a, source, result = numbers(of), FORMATS[of], FORMATS[to]
    loses = result.digits < source.digits or result.emax < source.emax
    for mode in MODES if loses else ("",):
        name = ".".join(filter(None, ["cvt", mode, to, of]))
        (got,) = run(engine, f"{name} %r, %a;", [a], f"b{result.width}")
        check(got, expect(a, source, result, mode or "rn"), [a])


@each_engine
@pytest.mark.parametrize("kind", ["f16", "bf16", "f32", "f64"])
def test_rounding_to_an_integer_keeps_the_format_and_the_sign_of_zero(engine: Engine, kind: str) -> None:
    a, fmt = numbers(kind), FORMATS[kind]
    for mode, own in WHOLE.items():
        (got,) = run(engine, f"cvt.{mode}.{kind}.{kind} %r, %a;", [a], f"b{fmt.width}")
        check(got, np.array([fmt.bits(whole(fmt.number(int(v)), own)) for v in a], a.dtype), [a])


@each_engine
def test_flushing_and_clamping_while_converting(engine: Engine) -> None:
    single, a = FORMATS["f32"], numbers("f32")
    flushed = np.array([single.flushed(int(v)) for v in a], np.uint32)
    for to in ("f16", "bf16"):
        (got,) = run(engine, f"cvt.rn.ftz.{to}.f32 %r, %a;", [a], "b16")
        check(got, expect(flushed, single, FORMATS[to], "rn"), [a])
    (got,) = run(engine, "cvt.rpi.ftz.f32.f32 %r, %a;", [a], "b32")
    check(got, np.array([single.bits(whole(single.number(int(v)), "rp")) for v in flushed], np.uint32), [a])
    wide = numbers("f64")
    (got,) = run(engine, "cvt.rn.ftz.f32.f64 %r, %a;", [wide], "b32")
    check(
        got,
        np.array([single.flushed(int(v)) for v in expect(wide, FORMATS["f64"], single, "rn")], np.uint32),
        [wide],
    )
    for to in ("f16", "f32"):
        fmt = FORMATS[to]
        (got,) = run(engine, f"cvt.{'rn.' if to == 'f16' else ''}sat.{to}.f32 %r, %a;", [a], f"b{fmt.width}")
        check(
            got,
            np.array([fmt.saturated(int(v)) for v in expect(a, single, fmt, "rn")], UNSIGNED[fmt.width]),
            [a],
        )


@each_engine
def test_relu_and_satfinite(engine: Engine) -> None:
    a, single = numbers("f32"), FORMATS["f32"]
    for to in ("f16", "bf16"):
        fmt = FORMATS[to]
        for mode in ("rn", "rz"):
            (got,) = run(engine, f"cvt.{mode}.satfinite.{to}.f32 %r, %a;", [a], "b16")
            check(got, expect(a, single, fmt, mode, satfinite=True), [a])
            (got,) = run(engine, f"cvt.{mode}.relu.{to}.f32 %r, %a;", [a], "b16")
            plain = expect(a, single, fmt, mode)
            check(got, np.where(plain >> 15 != 0, np.uint16(0), plain), [a])


@each_engine
def test_a_pair_has_the_first_source_above(engine: Engine) -> None:
    a = numbers("f32")
    b = np.roll(a, 11)
    for to in ("f16", "bf16"):
        (got,) = run(engine, f"cvt.rn.{to}x2.f32 %r, %a, %b;", [a, b], "b32")
        code = expect(a, FORMATS["f32"], FORMATS[to], "rn").astype(np.uint32)
        check(got, code << np.uint32(16) | np.roll(code, 11), [a, b])


@each_engine
@pytest.mark.parametrize("to", INTEGERS)
@pytest.mark.parametrize("of", ["f16", "bf16", "f32", "f64"])
def test_floats_become_integers_that_are_clamped(engine: Engine, to: str, of: str) -> None:
    """A NaN is 0, but from f64 or to 64 bits the top bit alone (PTX ISA, cvt)."""
    a, fmt, width = numbers(of), FORMATS[of], int(to[1:])

    def integer(bits: int, mode: str) -> int:
        value = fmt.number(bits)
        if value.kind == "nan":
            return 1 << (width - 1) if of == "f64" or width == 64 else 0
        if value.kind == "inf":
            return clamped(-(1 << 80) if value.sign else 1 << 80, to)
        size = whole(value, mode).magnitude.numerator
        return clamped(-size if value.sign else size, to)

    for mode, own in WHOLE.items():
        (got,) = run(engine, f"cvt.{mode}.{to}.{of} %r, %a;", [a], f"b{max(width, 16)}")
        expected = [signed(integer(int(v), own), to) % (1 << max(width, 16)) for v in a]
        check(got, np.array(expected, UNSIGNED[max(width, 16)]), [a])


@each_engine
@pytest.mark.parametrize("of", INTEGERS)
@pytest.mark.parametrize("to", ["f16", "bf16", "f32", "f64"])
def test_integers_become_floats_rounded_once(engine: Engine, to: str, of: str) -> None:
    width, fmt = int(of[1:]), FORMATS[to]
    a = values(max(width, 16), 44)
    if width > 16:  # beside halves of the last place
        ties = np.array(
            [(1 << k) + (1 << (k - fmt.digits)) + d for k in range(fmt.digits, width) for d in (-1, 0, 1)],
            a.dtype,
        )
        a = np.concatenate([a, ties, (-ties.astype(np.int64)).astype(a.dtype)])
    for mode in MODES:
        (got,) = run(engine, f"cvt.{mode}.{to}.{of} %r, %a;", [a], f"b{fmt.width}")
        exact = [signed(int(v), of) for v in a]
        check(
            got,
            np.array(
                [fmt.bits(finite(int(v < 0), Fraction(abs(v))), mode) for v in exact], UNSIGNED[fmt.width]
            ),
            [a],
        )


@each_engine
def test_tf32_is_a_float_with_a_short_fraction(engine: Engine) -> None:
    a, single = numbers("f32"), FORMATS["f32"]
    short = Binary(19, 11, 0x3FFFF)
    for mode in ("rna", "rn", "rz"):
        (got,) = run(engine, f"cvt.{mode}.tf32.f32 %r, %a;", [a], "b32")
        expected = np.array([short.bits(single.number(int(v)), mode) << 13 for v in a], np.uint32)
        number = a & np.uint32(0x7FFFFFFF) <= 0x7F800000
        check(got[number], expected[number], [a[number]])
        assert (got[~number] & 0x7FFFFFFF > 0x7F800000).all()


# -- 8 bits and fewer ------------------------------------------------------------------------------

SMALL = {
    "e4m3": (ml_dtypes.float8_e4m3fn, gfloat.formats.format_info_ocp_e4m3, 8),
    "e5m2": (ml_dtypes.float8_e5m2, gfloat.formats.format_info_ocp_e5m2, 8),
    "e3m2": (ml_dtypes.float6_e3m2fn, gfloat.formats.format_info_ocp_e3m2, 6),
    "e2m3": (ml_dtypes.float6_e2m3fn, gfloat.formats.format_info_ocp_e2m3, 6),
    "e2m1": (ml_dtypes.float4_e2m1fn, gfloat.formats.format_info_ocp_e2m1, 4),
}


def small_codes(x: Array, kind: str) -> Array:
    """What ml_dtypes makes of floats within the range; beyond it the largest number; of NaN what PTX has."""
    dtype, _, bits = SMALL[kind]
    most = float(ml_dtypes.finfo(dtype).max)
    with np.errstate(all="ignore"):
        codes = np.clip(x, -most, most).astype(dtype).view(np.uint8)
    # Without a NaN the largest; "positive MAX_NORM".
    return np.where(np.isnan(x), np.uint8(0x7F if bits == 8 else (1 << (bits - 1)) - 1), codes)


@each_engine
@pytest.mark.parametrize("kind", SMALL)
def test_small_formats_are_what_ml_dtypes_rounds_to(engine: Engine, kind: str) -> None:
    a = numbers("f32")
    random = np.random.default_rng(45)
    near = (random.standard_normal(3000) * 2.0 ** random.integers(-12, 10, 3000)).astype(np.float32)
    halves = np.arange(-4096, 4096, dtype=np.float32) / np.float32(256)
    a = np.concatenate([a, near.view(np.uint32), halves.view(np.uint32)])
    b = np.roll(a, 5)
    width = 4 if kind == "e2m1" else 8
    lines = f"cvt.rn.satfinite.{kind}x2.f32 %r, %a, %b;"
    if width == 4:
        lines = f".reg .b8 %k; cvt.rn.satfinite.{kind}x2.f32 %k, %a, %b; mov.b16 %r, {{%k, 0}};"
    (got,) = run(engine, lines, [a, b], "b16")
    code = small_codes(a.view(np.float32), kind).astype(np.uint16)
    check(got, code << np.uint16(width) | np.roll(code, 5), [a, b])


@each_engine
@pytest.mark.parametrize("kind", SMALL)
def test_small_formats_are_read_as_gfloat_reads_them(engine: Engine, kind: str) -> None:
    """Every code, in either place."""
    _, info, bits = SMALL[kind]
    width = 4 if bits == 4 else 8
    codes = np.arange(1 << bits, dtype=np.uint16)
    pairs = codes << np.uint16(width) | np.roll(codes, 7)
    with np.errstate(all="ignore"):
        values_ = [gfloat.decode_float(info, int(c)).fval for c in codes]
        expected = np.array(values_, np.float16).view(np.uint16).astype(np.uint32)
    expected[[math.isnan(v) for v in values_]] = 0x7FFF
    lines = f"cvt.rn.f16x2.{kind}x2 %r, %a;"
    if width == 4:
        lines = f".reg .b8 %k, %l; mov.b16 {{%k, %l}}, %a; cvt.rn.f16x2.{kind}x2 %r, %k;"
    (got,) = run(engine, lines, [pairs], "b32")
    check(got, expected << np.uint32(16) | np.roll(expected, 7), [pairs])


@each_engine
@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_halves_become_eight_bits(engine: Engine, kind: str) -> None:
    pairs = EVERY.astype(np.uint32) | np.roll(EVERY, 1).astype(np.uint32) << np.uint32(16)
    (got,) = run(engine, f"cvt.rn.satfinite.{kind}x2.f16x2 %r, %a;", [pairs], "b16")
    code = small_codes(EVERY.view(np.float16).astype(np.float32), kind).astype(np.uint16)
    check(got, code | np.roll(code, 1) << np.uint16(8), [pairs])


def scale(bits: int, mode: str, satfinite: bool) -> int:
    """ue8m0 of a float's magnitude, which is rounded to a power of two; up to 2^-127 it is code 0."""
    value = FORMATS["f32"].number(bits)
    if value.kind == "nan":
        return 0xFF
    if value.kind == "inf":
        return 0xFE if satfinite else 0xFF
    # Near the least code that is not below: no magnitude is more than a power of two off its bit lengths.
    size = value.magnitude
    if not size:
        return 0
    code = max(126 + size.numerator.bit_length() - size.denominator.bit_length(), 0)
    while code < 255 and Fraction(2) ** (code - 127) < size:
        code += 1
    if mode == "rz" and code and Fraction(2) ** (code - 127) > value.magnitude:
        code -= 1
    return min(code, 0xFE) if satfinite else code


@each_engine
def test_powers_of_two(engine: Engine) -> None:
    a = numbers("f32")[::3]
    b = np.roll(a, 5)
    for mode in ("rz", "rp"):
        for satfinite in (True, False):
            name = f"cvt.{mode}{'.satfinite' * satfinite}.ue8m0x2"
            code = np.array([scale(int(v), mode, satfinite) for v in a], np.uint16)
            (got,) = run(engine, f"{name}.f32 %r, %a, %b;", [a, b], "b16")
            check(got, code << np.uint16(8) | np.roll(code, 5), [a, b])
    halves = (a & np.uint32(0xFFFF0000)) | b >> np.uint32(16)
    code = np.array(
        [[scale(int(h) << 16, "rp", True) for h in (v >> 16, v & 0xFFFF)] for v in halves.tolist()], np.uint16
    )
    (got,) = run(engine, "cvt.rp.satfinite.ue8m0x2.bf16x2 %r, %a;", [halves], "b16")
    check(got, code[:, 0] << np.uint16(8) | code[:, 1], [halves])
    codes = np.arange(256, dtype=np.uint16)
    (got,) = run(engine, "cvt.rn.bf16x2.ue8m0x2 %r, %a;", [codes | np.uint16(0x8000)], "b32")
    low = np.array([FORMATS["bf16"].bits(finite(0, Fraction(2) ** (int(c) - 127))) for c in codes], np.uint32)
    low[255] = 0x7FFF
    check(got, low | low[128] << np.uint32(16), [codes])


@each_engine
@pytest.mark.parametrize(
    ("line", "width"),
    [
        ("cvt.f16.f32 %r, %a;", 32),
        ("cvt.s32.f32 %r, %a;", 32),
        ("cvt.f32.s32 %r, %a;", 32),
        ("cvt.rs.f16x2.f32 %r, %a, %a, %a;", 32),
        ("cvt.rn.e4m3x2.f32 %r, %a, %a;", 32),
        ("cvt.rni.f32.f64 %r, %a;", 64),
        ("cvt.rn.wrong.bf16.f32 %r, %a;", 32),
    ],
)
def test_conversions_that_do_not_exist_are_refused(engine: Engine, line: str, width: int) -> None:
    a = np.zeros(4, UNSIGNED[width])
    kind = "b16" if ".f16." in line or "bf16." in line or "e4m3" in line else "b32"
    with pytest.raises(Unsupported, match=line.split()[0].replace(".", r"\.")):
        run(engine, line, [a], kind)
