"""Models of approximate instructions against MPFR: correct rounding, and the manual's bounds, exactly."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import gmpy2
import hard_inputs
import numpy as np
import pytest

from precision_lab.emulator import approximate, exact, nominal, trigonometry
from precision_lab.formats import BF16, FP16, FP32, FloatFormat

FORMATS = {"f32": FP32, "f16": FP16, "bf16": BF16}
# Sums of two numbers are exact in so many bits, as everything here is of 700 or fewer and near each other.
CONTEXT = gmpy2.context(precision=1000, emin=-(1 << 20), emax=1 << 20)
FUNCTIONS: dict[str, Any] = {
    "ex2": gmpy2.exp2, "lg2": gmpy2.log2, "rcp": lambda x: 1 / x, "rsqrt": gmpy2.rec_sqrt, "sqrt": gmpy2.sqrt,
    "tanh": gmpy2.tanh, "sin": gmpy2.sin, "cos": gmpy2.cos, "div": lambda a, b: a / b,
}  # fmt: skip
VARIANTS = [(op, ftz) for op in nominal.OPERATIONS for ftz in (False, True) if nominal.supports(op, ftz)]
NARROW = [v for v in VARIANTS if v[0].endswith("f16")]
SINGLE = [v for v in VARIANTS if v[0].endswith("f32")]
UNARY = [v for v in SINGLE if not v[0].startswith("div")]
NAMES = {"ids": lambda v: v if isinstance(v, str) else ("ftz" if v else "plain")}


def format_of(op: str) -> FloatFormat:
    return FORMATS[op.split(".")[2]]


def nearest(value: Any, fmt: FloatFormat) -> float:
    """MPFR's rounding of a number to a format, subnormals and overflow included."""
    with gmpy2.context(
        precision=fmt.precision, emin=fmt.emin - fmt.precision + 2, emax=fmt.emax + 1, subnormalize=True
    ):
        return float(gmpy2.mpfr(value))


def real(op: str, *x: float) -> Any:
    """The function's value to 160 bits or more, NaN and infinities where IEEE has them."""
    if op.startswith("ex2"):  # 2^±2000 is as far beyond every format, and MPFR keeps it
        x = (min(max(x[0], -2000.0), 2000.0),)
    if op.startswith("tanh"):  # from 1, tanh 40 still differs by 2^-114
        x = (min(max(x[0], -40.0), 40.0),)
    # sin x differs from a tiny x by x³/6 only.
    with gmpy2.context(CONTEXT, precision=160 if abs(x[0]) > 2.0**-20 else 700):
        return FUNCTIONS[op.split(".")[0]](*(gmpy2.mpfr(v) for v in x))


@cache
def power(exponent: str) -> Any:
    """2 to a decimal number."""
    with gmpy2.context(CONTEXT):
        return gmpy2.exp2(gmpy2.mpq(Fraction(exponent)))


def flushed(x: float, fmt: FloatFormat, ftz: bool) -> float:
    return np.copysign(0.0, x) if ftz and abs(x) < 2.0**fmt.emin else x


def tabulated(op: str, *x: float) -> float | None:
    """What the manual's tables and sentences say of an input; None where its bound applies."""
    opcode = op.split(".")[0]
    if opcode == "div":
        a, b = x
        if op == "div.approx.f32" and 2.0**126 < abs(b) < np.inf and a == a:
            return float("nan") if np.isinf(a) else float(np.copysign(0.0, a) * np.copysign(1.0, b))
        if 0 in (a, b) or not np.isfinite(a) or not np.isfinite(b):
            with np.errstate(all="ignore"):
                return float(np.float64(a) / np.float64(b))
        return None
    (v,) = x
    zero = {"ex2": 1.0, "lg2": -np.inf, "tanh": v, "sin": v, "cos": 1.0, "sqrt": v}
    infinite = {"ex2": np.inf, "lg2": np.inf, "rcp": 0.0, "rsqrt": 0.0, "sqrt": np.inf, "tanh": 1.0}
    if v == 0:
        return zero.get(opcode, float(np.copysign(np.inf, v)))
    if v == np.inf:
        return infinite.get(opcode, float("nan"))
    if v == -np.inf:
        return {"ex2": 0.0, "rcp": -0.0, "tanh": -1.0}.get(opcode, float("nan"))
    if v != v or (v < 0 and opcode in ("lg2", "rsqrt", "sqrt")):
        return float("nan")
    if op == "tanh.approx.f32" and abs(v) < 2.0**-126:
        return v
    return None


def tolerance(op: str, value: Any, fmt: FloatFormat, *x: float) -> tuple[Any, Any] | None:
    """The number that the manual measures from, and the error it allows; None where it promises nothing."""
    magnitude = abs(x[-1])
    smallest = gmpy2.exp2(fmt.emin)

    def ulp(v: Any) -> Any:
        e = gmpy2.get_exp(v) - 1 if v else fmt.emin
        return gmpy2.exp2(max(e, fmt.emin) - fmt.precision + 1)

    if op == "ex2.approx.f32":
        rounded = gmpy2.mpfr(nearest(value, fmt))
        return rounded, (2 * ulp(rounded) if gmpy2.is_finite(rounded) else gmpy2.mpfr(0))
    if op == "rcp.approx.f32":
        return value, ulp(value)
    if op == "div.full.f32" or (op == "div.approx.f32" and magnitude >= 2.0**-126):
        return value, 2 * ulp(value)
    if op == "div.approx.f32":
        return None
    if op in ("sin.approx.f32", "cos.approx.f32"):
        pi = gmpy2.const_pi()
        return (
            (value, power("-20.5"))
            if magnitude <= 2 * pi
            else ((value, power("-14.7")) if magnitude <= 100 * pi else None)
        )
    if op == "lg2.approx.f32" and 0.5 < magnitude < 2:
        return value, power("-22")
    if op in ("tanh.approx.f16", "tanh.approx.bf16"):
        return value, power("-10.987" if fmt is FP16 else "-8")
    relative = {
        "lg2.approx.f32": "-22", "rsqrt.approx.f32": "-22.9", "sqrt.approx.f32": "-23",
        "tanh.approx.f32": "-11", "ex2.approx.f16": "-9.9", "ex2.approx.bf16": "-7",
    }[op]  # fmt: skip
    return value, power(relative) * max(abs(value), smallest)


def conforms(op: str, y: float, centre: Any, error: Any, value: Any, fmt: FloatFormat) -> bool:
    """Whether a float is within the manual's error, infinity standing for what is 2^(emax+1) or more."""
    keeps_sign = op.split(".")[0] in ("ex2", "rcp", "div", "rsqrt", "sqrt") or op == "tanh.approx.f32"
    if keeps_sign and y != 0 and (y < 0) != (value < 0):
        return False
    if np.isinf(y):
        if gmpy2.is_infinite(centre):
            return bool((y > 0) == (centre > 0))
        end = gmpy2.exp2(fmt.emax + 1) * (1 if y > 0 else -1)
        reach = centre + error if y > 0 else centre - error
        return bool(reach >= end if y > 0 else reach <= end)
    return not gmpy2.is_infinite(centre) and bool(abs(gmpy2.mpfr(y) - centre) <= error)


def adversarial(op: str) -> np.ndarray[Any, Any]:
    """float32 inputs next to everything that changes: powers of two, bounds of intervals, ends of ranges."""
    edges = [
        0.0,
        1.0,
        0.5,
        2.0,
        127.0,
        128.0,
        -126.0,
        -149.0,
        -150.0,
        9.0109,
        2 * np.pi,
        100 * np.pi,
        np.pi / 4,
    ]
    edges += [2.0**e for e in range(-149, 128, 3)] + [k * np.pi / 2 for k in range(1, 20)]
    edges += [2.0**126, 2.0**127, 2.0**-126, 2.0**-127, 16367173 * 2.0**72, 3.4028234663852886e38]
    codes = np.float32(edges).view(np.uint32).astype(np.int64)
    near = np.unique((codes[:, None] + np.arange(-3, 4)).clip(0, 0x7F800002)).astype(np.uint32)
    return np.concatenate([near, near | np.uint32(0x80000000), np.uint32([0x7FFFFFFF, 0xFF800001])])


def drawn(op: str, count: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], ...]:
    """Random codes, half of all floats and half where the function is neither flat nor out of range."""
    rng = np.random.default_rng([seed, *op.encode()])
    codes = rng.integers(0, 1 << 32, count, dtype=np.uint32)
    middle = rng.uniform(-20, 20, count).astype(np.float32)
    if op.split(".")[0] in ("lg2", "sqrt", "rsqrt"):
        middle = np.abs(middle)
        middle[::3] = 2.0 ** rng.uniform(-1, 1, middle[::3].size)
    if op.startswith(("sin", "cos")):
        middle *= 17
    codes[::2] = middle[::2].view(np.uint32)
    if not op.startswith("div"):
        return (codes,)
    other = np.roll(codes, 1) ^ np.uint32(5)
    # Divisors that go in, or nearly: exact quotients and powers of two.
    other[::8] = codes[::8] + np.uint32(0x00800000)
    other[1::16] = (codes[1::16] & np.uint32(0xFF800000)) ^ np.uint32(0x40000000)
    return codes, other


def inputs(op: str, count: int) -> tuple[np.ndarray[Any, Any], ...]:
    found = drawn(op, count)
    edges = adversarial(op)
    if len(found) == 1:
        return (np.concatenate([edges, *found]),)
    pairs = np.random.default_rng(1).choice(edges, (2, 2000))
    return tuple(np.concatenate([p, f]) for p, f in zip(pairs, found, strict=True))


def check(op: str, ftz: bool, codes: tuple[np.ndarray[Any, Any], ...]) -> None:
    """Nominal result, side, extremes and their neighbours of each input, against MPFR alone."""
    fmt = format_of(op)
    results = nominal.evaluate(op, ftz, 0, *codes)
    sides = nominal.side(op, ftz, *codes)
    lows, highs = approximate.extremes(op, ftz, *codes)
    promised = approximate.is_promised(op, ftz, *codes)
    decoded = [fmt.decode(c) for c in codes]
    outputs = [
        fmt.decode(v).tolist() for v in (results, lows, highs, beside(lows, fmt, -1), beside(highs, fmt, 1))
    ]
    for i, (y, low, high, below, above) in enumerate(zip(*outputs, strict=True)):
        side = sides[i]
        x = tuple(flushed(float(d[i]), fmt, ftz) for d in decoded)
        where = f"{op} ftz={ftz} x={[v.hex() for v in x]}"
        known = tabulated(op, *x)
        if known is not None:
            known = flushed(known, fmt, ftz)
            if known != known:
                assert int(results[i]) == (1 << (fmt.bits - 1)) - 1 and np.isnan([low, high]).all(), where
            else:
                assert {int(results[i]), int(lows[i]), int(highs[i])} == {code_of(fmt, known)}, where
                assert side == 0, where
            continue
        value = real(op, *x)
        rounded = nearest(value, fmt)
        final = flushed(rounded, fmt, ftz)
        assert y == final and np.signbit(y) == (bool(value < 0) or (value == 0 and np.signbit(final))), where
        beyond = gmpy2.mpfr(final)
        assert side == int(value > beyond) - int(value < beyond), where
        with gmpy2.context(CONTEXT):
            allowed = tolerance(op, value, fmt, *x)
            assert promised[i] == (allowed is not None), where
            if allowed is None:
                assert (low, high) == (-np.inf, np.inf), where
                continue
            for extreme, following in ((low, below), (high, above)):
                if ftz and extreme == 0:  # which stands for all that are flushed
                    continue
                assert conforms(op, extreme, *allowed, value, fmt), (where, extreme)
                if not np.isinf(extreme):
                    assert not conforms(op, following, *allowed, value, fmt), (where, following)


def code_of(fmt: FloatFormat, value: float) -> int:
    return int(fmt.encode(np.array([value]))[0])


def beside(codes: Any, fmt: FloatFormat, step: int) -> Any:
    """Codes of the next floats below or above; of the last ones, their own."""
    magnitude = codes.astype(np.int64) & ((1 << (fmt.bits - 1)) - 1)
    ordinals = np.where(codes >> (fmt.bits - 1), -magnitude, magnitude)
    last = (fmt.emax - fmt.emin + 2) << fmt.fraction_bits
    moved = np.where(magnitude >= last, ordinals, ordinals + step)
    return np.where(moved < 0, -moved | (1 << (fmt.bits - 1)), moved).astype(fmt.bits_dtype)


@pytest.mark.parametrize(("op", "ftz"), SINGLE, **NAMES)
def test_nominal_results_are_correctly_rounded_and_extremes_are_the_last_that_conform(
    op: str, ftz: bool
) -> None:
    check(op, ftz, inputs(op, 1500))


@pytest.mark.parametrize(("op", "ftz"), NARROW, **NAMES)
def test_all_65536_inputs_of_16_bits_are_as_mpfr_has_them(op: str, ftz: bool) -> None:
    check(op, ftz, (np.arange(1 << 16, dtype=np.uint32).astype(np.uint16),))


def test_every_candidate_is_the_nominal_result_moved_and_held_between_the_extremes() -> None:
    for op, ftz in SINGLE:
        fmt = format_of(op)
        codes = inputs(op, 300)
        lows, highs = (ordinals(c, fmt) for c in approximate.extremes(op, ftz, *codes))
        plain = ordinals(nominal.evaluate(op, False, 0, *codes), fmt)
        inside = codes if not ftz else None
        for k in (-9, -4, -2, -1, 0, 1, 2, 4, 9):
            found = nominal.evaluate(op, ftz, k, *codes)
            at, numbers = ordinals(found, fmt), ~np.isnan(fmt.decode(found))
            assert ((lows <= at) & (at <= highs))[numbers].all(), (op, ftz, k)
            if inside is not None:  # without flushing it is no less far than it may be
                assert (at == np.clip(plain + k, lows, highs))[numbers].all(), (op, k)


@pytest.mark.parametrize(("op", "ftz"), [v for v in VARIANTS if approximate.is_enumerable(v[0])], **NAMES)
def test_candidates_reach_from_the_farthest_below_to_the_farthest_above_and_no_further(
    op: str, ftz: bool
) -> None:
    fmt = format_of(op)
    if fmt.bits == 16:
        codes: Any = (np.arange(1 << 16, dtype=np.uint32).astype(np.uint16),)
    else:
        codes = inputs(op, 200_000)
    nominals = ordinals(nominal.evaluate(op, ftz, 0, *codes), fmt)
    low, high = (ordinals(c, fmt) - nominals for c in approximate.extremes(op, ftz, *codes))
    # Flushing makes a step of all subnormals at once; what is not promised has no last candidate.
    counted = approximate.is_promised(op, ftz, *codes)
    if ftz:
        extremes = [np.abs(ordinals(c, fmt)) for c in approximate.extremes(op, ftz, *codes)]
        counted &= (extremes[0] > 1 << fmt.fraction_bits) & (extremes[1] > 1 << fmt.fraction_bits)
    assert approximate.candidates(op) == range(low[counted].min(), high[counted].max() + 1)
    assert len(approximate.candidates(op)) <= approximate.MOST_CANDIDATES


def ordinals(codes: Any, fmt: FloatFormat) -> Any:
    magnitude = codes.astype(np.int64) & ((1 << (fmt.bits - 1)) - 1)
    return np.where(codes >> (fmt.bits - 1), -magnitude, magnitude)


def test_what_cannot_be_enumerated_says_so() -> None:
    many = {op for op in nominal.OPERATIONS if not approximate.is_enumerable(op)}
    assert many == {
        "lg2.approx.f32", "tanh.approx.f32", "sin.approx.f32", "cos.approx.f32", "tanh.approx.f16",
        "tanh.approx.bf16", "rcp.approx.f64", "rsqrt.approx.f64",
    }  # fmt: skip
    assert len(approximate.candidates("sin.approx.f32")) > 1 << 31


def test_two_ulps_below_a_power_of_two_are_four_floats() -> None:
    """2^x rounds to 1 for every tiny x, and only 2^0 is promised to be exact."""
    x = np.float32([0.0, -0.0, 1e-20, 3.0]).view(np.uint32)
    low, high = approximate.enclosure("ex2.approx.f32", False, x)
    assert low.tolist() == [1, 1, 1 - 2.0**-22, 8 - 2.0**-19]
    assert high.tolist() == [1, 1, 1 + 2.0**-22, 8 + 2.0**-19]


def test_a_divisor_beyond_2_to_126_gives_what_the_manual_says_in_so_many_words() -> None:
    b = np.float32([2.0**126, 2.0**127, -(2.0**127), 2.0**127, -np.inf]).view(np.uint32)
    a = np.float32([2.0**100, 2.0**127, 1.0, np.inf, 1.0]).view(np.uint32)
    found = nominal.evaluate("div.approx.f32", False, 0, a, b)
    assert [hex(v) for v in found] == ["0x32800000", "0x0", "0x80000000", "0x7fffffff", "0x80000000"]
    exact = nominal.evaluate("div.full.f32", False, 0, a, b).view(np.float32)
    assert exact[:3].tolist() == [2.0**-26, 1.0, -(2.0**-127)] and np.isinf(exact[3])


def test_of_a_subnormal_divisor_nothing_is_promised_unless_it_is_flushed() -> None:
    a, b = np.float32([3.0]).view(np.uint32), np.uint32([5])
    assert not approximate.is_promised("div.approx.f32", False, a, b)[0]
    assert approximate.is_promised("div.approx.f32", True, a, b)[0]
    assert nominal.evaluate("div.approx.f32", True, 1, a, b)[0] == 0x7F800000


def test_doubles_are_taken_and_given_by_their_upper_halves() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(0.5, 2, 300) * 2.0 ** rng.integers(-1000, 1000, 300)
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.0**-1022, 1.7e308, 4.0]
    codes = np.concatenate([np.float64(edges), x]).view(np.uint64)
    cut = (codes & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    for op, of in (("rcp.approx.f64", lambda v: 1 / v), ("rsqrt.approx.f64", gmpy2.rec_sqrt)):
        found = nominal.evaluate(op, True, 0, codes)
        assert not (found & np.uint64(0xFFFFFFFF)).any()
        for v, bits in zip(cut.tolist(), found, strict=True):
            v = float(np.copysign(0.0, v)) if abs(v) < 2.0**-1022 else v
            y = float(bits.view(np.float64))
            if v != v or (v < 0 and op[1] == "s"):
                assert bits == 0x7FFFFFFF00000000
            elif v == 0 or np.isinf(v):
                assert y == (np.copysign(np.inf, v) if v == 0 else np.copysign(0.0, v))
            else:
                with gmpy2.context(precision=21, emin=-1100, emax=1100):
                    rounded = float(of(gmpy2.mpfr(v, 53)))
                assert y == (rounded if abs(rounded) >= 2.0**-1022 else 0.0), (op, v)


@pytest.mark.parametrize(("op", "ftz"), VARIANTS, **NAMES)
def test_the_address_is_of_the_function_that_evaluates_arrays(op: str, ftz: bool) -> None:
    wide = op.endswith("f64")
    bits: Any = ctypes.c_uint64 if wide else ctypes.c_uint32
    operands = 2 if op.startswith("div") else 1
    call = ctypes.CFUNCTYPE(bits, *[bits] * operands, ctypes.c_int32)(nominal.address(op, ftz))
    dtype = np.uint64 if wide else np.uint32 if op.endswith("f32") else np.uint16
    codes = np.random.default_rng(5).integers(
        0, 1 << np.dtype(dtype).itemsize * 8, (operands, 50), dtype=dtype
    )
    for k in (-1, 0, 2):
        found = nominal.evaluate(op, ftz, k, *codes)
        assert [call(*(int(c) for c in pair), k) for pair in codes.T] == found.tolist()


def test_results_have_the_shape_of_their_operands_and_strided_ones_are_read_as_they_are() -> None:
    x = np.float32(np.arange(24).reshape(4, 6)).view(np.uint32)
    assert nominal.evaluate("sqrt.approx.f32", False, 0, x[:, ::2]).view(np.float32)[3, 2] == np.sqrt(
        np.float32(22)
    )
    assert nominal.evaluate("sqrt.approx.f32", False, 0, x[:0]).shape == (0, 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ex3.approx.f32", False, 0, np.zeros(1, np.uint32)), "did you mean ex2.approx.f32"),
        (("tanh.approx.f32", True, 0, np.zeros(1, np.uint32)), "exists without .ftz only"),
        (("ex2.approx.f16", True, 0, np.zeros(1, np.uint16)), "exists without .ftz only"),
        (("ex2.approx.bf16", False, 0, np.zeros(1, np.uint16)), "exists with .ftz only"),
        (("rsqrt.approx.f64", False, 0, np.zeros(1, np.uint64)), "exists with .ftz only"),
        (("ex2.approx.f32", False, 0, np.zeros(1, np.float32)), "takes 1 array.s. of uint32.*got float32"),
        (("div.full.f32", False, 0, np.zeros(1, np.uint32)), "takes 2 array"),
        (("div.full.f32", False, 0, np.zeros(1, np.uint32), np.zeros(2, np.uint32)), "of one shape"),
        (("ex2.approx.f32", False, 1 << 31, np.zeros(1, np.uint32)), "a choice is a 32-bit number"),
    ],
)
def test_what_is_no_instruction_or_does_not_fit_one_is_refused(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nominal.evaluate(*arguments)


@pytest.mark.slow
def test_code_from_disk_keeps_to_itself_what_other_instructions_code_is_called(tmp_path: Path) -> None:
    """Symbols of cached code carry the running numbers of the process that made it: two once were one."""
    program = (
        "import sys, numpy as np\nfrom precision_lab.emulator import nominal\n"
        "a = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)\n"
        "for op in sys.argv[1:]: print(op, nominal.side(op, op[0] == 'e', a).astype(int).sum(),"
        " int(nominal.evaluate(op, op[0] == 'e', 1, a).sum(dtype=np.int64)))"
    )
    found: dict[str, set[str]] = {}
    environment = os.environ | {"PRECISION_LAB_CACHE": str(tmp_path)}
    for order in (["tanh.approx.bf16"], ["ex2.approx.bf16", "tanh.approx.bf16"], ["ex2.approx.bf16"]):
        run = subprocess.run(
            [sys.executable, "-c", program, *order],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        for line in run.stdout.splitlines():
            found.setdefault(line.split()[0], set()).add(line)
    assert {op: len(lines) for op, lines in found.items()} == {"tanh.approx.bf16": 1, "ex2.approx.bf16": 1}


TINY = 2.0**-20  # below, tails are signs only


@pytest.mark.parametrize("ftz", [False, True])
def test_next_to_zero_values_lie_where_their_series_says(ftz: bool) -> None:
    """There values are nearer to a float than any error bound, and only the sign of the rest counts."""
    rng = np.random.default_rng(9)
    magnitude = rng.integers(0x00800000, int(np.float32(2.0**-26).view(np.uint32)), 100_000).astype(np.uint32)
    for op, value, towards in (
        ("sin", None, -1), ("tanh", None, -1), ("cos", 1.0, 0), ("ex2", 1.0, 1),
    ):  # fmt: skip
        if ftz and op == "tanh":
            continue
        for sign in (0, 0x80000000):
            x = magnitude | np.uint32(sign)
            found = nominal.evaluate(f"{op}.approx.f32", ftz, 0, x).view(np.float32)
            assert (found == (x.view(np.float32) if value is None else value)).all(), op
            negative = -1 if sign else 1
            expected = -1 if towards == 0 else towards * negative
            assert (nominal.side(f"{op}.approx.f32", ftz, x) == expected).all(), op


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["ex2", "lg2", "tanh", "sin", "cos"])
def test_every_input_that_two_doubles_do_not_decide_is_decided_by_mpfr(op: str) -> None:
    """All float32: those within four times the error bound of a float or a midpoint are found and looked at.

    tanh, sin and cos are looked at for positive x: they are odd or even by construction. Beyond 16, tanh is
    nearer to 1 than a quarter of an ulp; below `TINY` the series decides.
    """
    code = lambda x: int(np.float32(x).view(np.uint32))  # noqa: E731
    pieces = {
        "ex2": [(code(TINY), code(152)), (code(-TINY), code(-152))], "lg2": [(1, 0x7F800000)],
        "tanh": [(code(TINY), code(16))],
    }.get(op, [(code(TINY), 0x7F800000)])  # fmt: skip
    value = getattr(trigonometry if op in ("sin", "cos") else exact, op)
    search = hard_inputs.searching(value)
    hard = [c for low, high in pieces for c in hard_inputs.found(search, low, high, 4 * exact.ERRORS[op])]
    # The exact ones at least: powers of two, or of x.
    assert len(hard) >= {"ex2": 276, "lg2": 277}.get(op, 0)
    check(f"{op}.approx.f32", False, (np.array(hard, np.uint32),))
