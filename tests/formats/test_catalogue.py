"""Every format the lab knows: its record against the specifications, its codes against other libraries.

Exhaustive for formats of up to 16 bits. Where ml_dtypes and gfloat differ from the lab, or from each other,
a test says in what.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch

from precision_lab.exceptions import UsageError
from precision_lab.formats import FORMATS, KERNEL_FORMATS, FloatFormat, get_format, kernel_format

ML_DTYPES: dict[str, Any] = {
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
GFLOAT = {
    "fp64": gfloat.formats.format_info_binary64,
    "fp32": gfloat.formats.format_info_binary32,
    "bf16": gfloat.formats.format_info_bfloat16,
    "fp16": gfloat.formats.format_info_binary16,
    "e4m3": gfloat.formats.format_info_ocp_e4m3,
    "e5m2": gfloat.formats.format_info_ocp_e5m2,
    "e3m2": gfloat.formats.format_info_ocp_e3m2,
    "e2m3": gfloat.formats.format_info_ocp_e2m3,
    "e2m1": gfloat.formats.format_info_ocp_e2m1,
    "e8m0": gfloat.formats.format_info_ocp_e8m0,
}
SMALL = tuple(fmt for fmt in FORMATS.values() if fmt.bits <= 16)
ROUNDED = tuple(fmt for fmt in SMALL if fmt.rounds)
FINITE = tuple(fmt for fmt in ROUNDED if not fmt.has_nan)

every = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
small = pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
rounded = pytest.mark.parametrize("fmt", ROUNDED, ids=lambda fmt: fmt.name)
finite = pytest.mark.parametrize("fmt", FINITE, ids=lambda fmt: fmt.name)

# Bits of code, storage, precision, exponent; bias, emin, emax; largest and smallest positive number; codes of
# +infinity and of NaN. Copied from the specifications: IEEE 754-2019 table 3.5, OFP8 table 1, OCP MX tables
# 3 to 7.
TABLE = {
    "fp64": (
        64, 64, 53, 11, 1023, -1022, 1023, sys.float_info.max, 2.0**-1074, 0x7FF << 52, (0x7FF << 52) + 1,
    ),
    "fp32": (32, 32, 24, 8, 127, -126, 127, 2.0**128 - 2.0**104, 2.0**-149, 0x7F80_0000, 0x7F80_0001),
    "bf16": (16, 16, 8, 8, 127, -126, 127, 2.0**128 - 2.0**120, 2.0**-133, 0x7F80, 0x7F81),
    "fp16": (16, 16, 11, 5, 15, -14, 15, 65504.0, 2.0**-24, 0x7C00, 0x7C01),
    "e4m3": (8, 8, 4, 4, 7, -6, 8, 448.0, 2.0**-9, None, 0x7F),
    "e5m2": (8, 8, 3, 5, 15, -14, 15, 57344.0, 2.0**-16, 0x7C, 0x7D),
    "e3m2": (6, 8, 3, 3, 3, -2, 4, 28.0, 2.0**-4, None, None),
    "e2m3": (6, 8, 4, 2, 1, 0, 2, 7.5, 2.0**-3, None, None),
    "e2m1": (4, 8, 2, 2, 1, 0, 2, 6.0, 0.5, None, None),
    "e8m0": (8, 8, 1, 8, 127, -127, 127, 2.0**127, 2.0**-127, None, 0xFF),
}  # fmt: skip


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal as numbers, NaN with NaN, and zeros with their sign."""
    __tracebackhide__ = True
    both_nan = np.isnan(a) & np.isnan(b)
    differ = ~both_nan & ((a != b) | (np.signbit(a) != np.signbit(b)))
    assert not differ.any(), f"{a[differ][:3]} and {b[differ][:3]}"


def numbers_of(fmt: FloatFormat) -> np.ndarray:
    """Every finite number, ascending, zero once."""
    values = fmt.decode(fmt.all_bits())
    return np.unique(values[np.isfinite(values)] + 0.0)  # of zeros the positive one


def dense(fmt: FloatFormat) -> np.ndarray:
    """Every number and midpoint, the overflow threshold and beyond, and their float64 neighbours."""
    numbers = numbers_of(fmt)
    midpoints = (numbers[1:] + numbers[:-1]) / 2  # exact; half the smallest number is one of them
    assert fmt.min_subnormal / 2 in midpoints
    beyond = fmt.overflow_threshold * np.array([-2.0, -1.0, 1.0, 2.0])
    points = np.concatenate([numbers, midpoints, beyond])
    around = [points, np.nextafter(points, -np.inf), np.nextafter(points, np.inf)]
    return np.unique(np.concatenate([*around, [-0.0, np.inf, -np.inf, 1e300, -1e300]]))


# -- the records ----------------------------------------------------------------------------


def test_the_table_has_every_format() -> None:
    assert list(FORMATS) == list(TABLE)


@every
def test_a_record_says_what_the_specification_says(fmt: FloatFormat) -> None:
    found = (
        fmt.bits, fmt.storage_bits, fmt.precision, fmt.exponent_bits, fmt.bias, fmt.emin, fmt.emax,
        fmt.max_finite, fmt.min_subnormal, fmt.infinity_code, fmt.nan_codes[0] if fmt.has_nan else None,
    )  # fmt: skip
    assert found == TABLE[fmt.name]
    assert fmt.bits_dtype.itemsize * 8 == fmt.storage_bits
    if fmt.has_nan:
        assert fmt.nan_codes[-1] == fmt.n_magnitudes - 1 and fmt.nan_code in fmt.nan_codes


@every
def test_a_record_says_what_gfloat_says(fmt: FloatFormat) -> None:
    info = GFLOAT[fmt.name]
    assert (info.bits, info.precision, info.expBits, info.bias) == (
        fmt.bits, fmt.precision, fmt.exponent_bits, fmt.bias,
    )  # fmt: skip
    assert (info.is_signed, info.has_zero, info.max, info.smallest) == (
        fmt.signed, fmt.has_zero, fmt.max_finite, fmt.min_subnormal,
    )  # fmt: skip
    # gfloat's is ⌊log₂ of the largest⌋ in float64, where that of fp64 rounds up.
    assert info.emax == fmt.emax + (fmt.name == "fp64")
    signs = 1 + fmt.signed
    infinities = (fmt.infinity_code is not None) * signs
    nans = fmt.n_magnitudes - fmt.max_code - 1 - fmt.has_infinity
    assert (info.num_infs, info.num_nans) == (infinities, nans * signs)


@small
def test_every_code_is_what_the_record_says(fmt: FloatFormat) -> None:
    values = fmt.decode(fmt.all_bits())
    magnitudes = values[: fmt.n_magnitudes]
    assert np.isfinite(magnitudes[: fmt.max_code + 1]).all() and magnitudes[fmt.max_code] == fmt.max_finite
    assert np.flatnonzero(np.isposinf(magnitudes)).tolist() == [
        code for code in (fmt.infinity_code,) if code is not None
    ]
    assert np.flatnonzero(np.isnan(magnitudes)).tolist() == list(fmt.nan_codes)
    assert (magnitudes == 0).any() == fmt.has_zero
    if fmt.signed:
        same(values[fmt.n_magnitudes :], -magnitudes)


@small
def test_the_torch_dtype_is_that_of_the_same_name_as_in_ml_dtypes(fmt: FloatFormat) -> None:
    name = np.dtype(ML_DTYPES[fmt.name]).name
    if fmt.torch_name is None:
        assert not hasattr(torch, name), f"{fmt.name} has a torch dtype: {name}"
    else:
        assert fmt.torch_name == name and isinstance(getattr(torch, name), torch.dtype)


def test_what_a_format_is_good_for() -> None:
    assert [f.name for f in FORMATS.values() if not f.rounds] == ["e8m0"]
    assert [f.name for f in FORMATS.values() if f.always_saturates] == ["e3m2", "e2m3", "e2m1"]
    assert KERNEL_FORMATS == ("fp64", "fp32", "bf16", "fp16", "e4m3", "e5m2")


GIVEN = ("mine", 6, 3, -2, 4, 7, False, None, "by hand")


def test_a_format_made_by_hand_works_as_its_twin_in_the_table() -> None:
    mine, twin = FloatFormat(*GIVEN), FORMATS["e3m2"]
    bits = mine.all_bits()
    same(mine.decode(bits), twin.decode(bits))
    assert (mine.encode(mine.decode(bits)) == bits).all()
    assert dataclasses.replace(twin, name="mine", description="by hand") == mine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_significand": 8}, "precision=3, max_significand=8: .* a normal number has p bits"),
        ({"max_significand": 3}, "max_significand=3"),
        ({"bits": 5}, "bits=5, emin=-2, emax=4, has_infinity=False: its codes do not fit"),
        ({"emax": 5}, "emax=5, has_infinity=False: its codes do not fit"),
        ({"has_infinity": True}, "has_infinity=True: its codes do not fit"),
        ({"emin": 5}, "emin=5, emax=4: there is no normal number"),
        ({"precision": 54, "max_significand": 2**53}, "float64 does not hold all of its numbers"),
        ({"emin": -1073}, "float64 does not hold"),
        ({"bits": 64}, "of 64 bits there is IEEE binary64 alone"),
    ],
    ids=str,
)  # fmt: skip
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^format 'mine': .*{message}"):
        dataclasses.replace(FloatFormat(*GIVEN), **change)


# -- codes ----------------------------------------------------------------------------------


@small
def test_every_code_decodes_as_in_ml_dtypes_and_gfloat(fmt: FloatFormat) -> None:
    bits = fmt.all_bits()
    with np.errstate(invalid="ignore"):  # signalling NaNs are quieted
        same(fmt.decode(bits), bits.view(ML_DTYPES[fmt.name]).astype(np.float64))
    same(fmt.decode(bits), gfloat.decode_ndarray(GFLOAT[fmt.name], bits.astype(np.int64)))


@small
def test_every_number_encodes_to_its_code_as_in_ml_dtypes(fmt: FloatFormat) -> None:
    bits = fmt.all_bits()
    values = fmt.decode(bits)
    numbers = ~np.isnan(values)
    assert (fmt.encode(values[numbers]) == bits[numbers]).all()
    theirs = values[numbers].astype(ML_DTYPES[fmt.name]).view(fmt.bits_dtype)
    assert (bits[numbers] == theirs).all()


@finite
def test_nan_is_refused_where_it_has_no_code(fmt: FloatFormat) -> None:
    with pytest.raises(UsageError, match=rf"value=nan .* is not a {fmt.name} number: {fmt.name} has no NaN"):
        fmt.encode(np.array([1.0, np.nan]))
    same(fmt.round(np.array([np.nan, 1.0])), np.array([np.nan, 1.0]))
    # Others have rules of their own: ml_dtypes gives −0, gfloat refuses, the lab's cast to E2M1 gives +6.
    assert np.array([np.nan], np.float32).astype(ML_DTYPES[fmt.name]).view(np.uint8)[0] == fmt.sign_mask
    with pytest.raises(ValueError, match="No NaN"):
        gfloat.round_float(GFLOAT[fmt.name], math.nan)


@pytest.mark.parametrize("fmt", [f for f in SMALL if f.bits < f.storage_bits], ids=lambda fmt: fmt.name)
def test_a_code_wider_than_the_format_is_refused(fmt: FloatFormat) -> None:
    with pytest.raises(UsageError, match=rf"bits=0x{fmt.n_patterns:x} is no code of {fmt.name}"):
        fmt.decode(np.array([1, fmt.n_patterns], np.uint8))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.0, "has no zero"),
        (-0.0, "has no zero"),
        (-1.0, "has no sign"),
        (3.0, r"is not a e8m0 number$"),
        (2.0**-128, r"is not a e8m0 number$"),
        (2.0**128, r"is not a e8m0 number$"),
        (math.inf, r"is not a e8m0 number$"),
    ],
)
def test_e8m0_encodes_powers_of_two_alone(value: float, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        get_format("e8m0").encode(np.array([1.0, value]))


def test_e8m0s_codes_are_exponents() -> None:
    codes = np.arange(255, dtype=np.uint8)
    powers = 2.0 ** (codes.astype(float) - 127)
    fmt = get_format("e8m0")
    same(fmt.decode(codes), powers)
    assert (fmt.encode(powers) == codes).all()
    assert fmt.encode(np.array([np.nan, -np.nan])).tolist() == [0xFF, 0xFF]


# -- order ----------------------------------------------------------------------------------


@small
def test_ordinals_count_the_numbers(fmt: FloatFormat) -> None:
    numbers = numbers_of(fmt)
    ordinals = fmt.ordinal(numbers)
    assert (np.diff(ordinals) == 1).all() and ordinals[-1] == fmt.max_ordinal
    same(fmt.from_ordinal(ordinals), numbers)
    assert fmt.ordinal(np.array([np.inf, 0.0, -0.0])).tolist() == [fmt.max_ordinal + 1, 0, 0]


@small
def test_neighbours_and_ulps_are_gaps_between_numbers(fmt: FloatFormat) -> None:
    numbers = numbers_of(fmt)
    below, above = fmt.neighbours(numbers)
    same(below[1:], numbers[:-1])
    same(above[:-1], numbers[1:])
    # Beyond the ends lies what is no number of every format: infinity, and 0 where nothing is negative.
    assert (below[0], above[-1]) == (-np.inf if fmt.signed else 0.0, np.inf)
    positive = numbers[numbers > 0]
    assert (fmt.ulp(positive[:-1]) == np.diff(positive)).all()
    _, exponent = np.frexp(positive)
    assert (fmt.exponent(positive) == np.maximum(exponent - 1, fmt.emin)).all()


def test_what_is_below_zero_has_no_place_in_an_unsigned_format() -> None:
    fmt = get_format("e8m0")
    with pytest.raises(UsageError, match=r"value=.*-2\.0.*: e8m0 has no sign"):
        fmt.ordinal(np.array([1.0, -2.0]))
    with pytest.raises(UsageError, match=r"ordinal=.*-1.*: e8m0 has no sign"):
        fmt.from_ordinal(np.array([-1]))


# -- rounding -------------------------------------------------------------------------------


@rounded
@pytest.mark.parametrize("saturating", [False, True])
def test_rounding_agrees_with_gfloat_at_and_beside_every_boundary(fmt: FloatFormat, saturating: bool) -> None:
    """gfloat refuses to overflow without saturation where there is nothing else; the lab saturates there."""
    values = dense(fmt)
    theirs = gfloat.round_ndarray(GFLOAT[fmt.name], values, sat=saturating or fmt.always_saturates)
    same(fmt.round(values, saturating=saturating), theirs)


@rounded
def test_rounding_agrees_with_ml_dtypes_at_and_beside_every_boundary(fmt: FloatFormat) -> None:
    """From float32, because ml_dtypes converts a float64 through float32 and so rounds twice."""
    with np.errstate(over="ignore"):
        values = np.unique(dense(fmt).astype(np.float32))
        beside = [np.nextafter(values, np.float32(end)) for end in (-np.inf, np.inf)]
        values = np.concatenate([values, *beside])
        theirs = values.astype(ML_DTYPES[fmt.name]).astype(np.float64)
    same(fmt.round(values.astype(np.float64)), theirs)


@finite
def test_overflow_saturates_where_there_is_nothing_else(fmt: FloatFormat) -> None:
    """OCP MX 1.0 §6.3 clamps; gfloat does when it is told to, ml_dtypes always."""
    values = np.array([fmt.overflow_threshold, -1e300, np.inf, -np.inf])
    expected = np.copysign(fmt.max_finite, values)
    for saturating in (False, True):
        same(fmt.round(values, saturating=saturating), expected)
        same(fmt.overflow(values, saturating=saturating), expected)
    with pytest.raises(ValueError, match="No Infs or NaNs"):
        gfloat.round_float(GFLOAT[fmt.name], 1e300)


def test_nothing_rounds_to_e8m0_because_there_is_no_one_rule() -> None:
    fmt = get_format("e8m0")
    with pytest.raises(UsageError, match=r"format 'e8m0' has no zero.*choose its numbers by a recipe's rule"):
        fmt.round(np.array([1.0]))
    # 3 lies halfway between 2 and 4.
    assert np.array([3.0], np.float32).astype(ml_dtypes.float8_e8m0fnu).astype(float)[0] == 4.0
    assert gfloat.round_float(gfloat.formats.format_info_ocp_e8m0, 3.0) == 2.0


# -- kernels --------------------------------------------------------------------------------


@every
def test_a_format_that_no_kernel_takes_is_refused_with_those_that_there_are(fmt: FloatFormat) -> None:
    if fmt.for_kernels:
        assert kernel_format(fmt.name) is fmt and kernel_format(fmt) is fmt
        return
    why = "it has no sign or no zero" if fmt.name == "e8m0" else "torch has no dtype of it"
    for given in (fmt.name, fmt):
        with pytest.raises(
            UsageError, match=f"^format '{fmt.name}': {why}, so no .* choose one of fp64, fp32"
        ):
            kernel_format(given)


# -- documentation --------------------------------------------------------------------------


def row(fmt: FloatFormat) -> str:
    """A format as docs/low-precision.md tells of it."""

    def code(codes: range | int | None) -> str:
        if codes is None or codes == range(0):
            return "–"
        if isinstance(codes, int):
            return f"{codes:#x}"
        return f"{codes[0]:#x}" + (f" … {codes[-1]:#x}" if codes[0] < codes[-1] else "")

    cells = [
        f"`{fmt.name}`", f"{fmt.bits}", f"{fmt.precision}", f"{fmt.emin}", f"{fmt.emax}",
        f"{fmt.max_finite:.5g}", f"{fmt.min_subnormal:.5g}",
        code(fmt.infinity_code), code(fmt.nan_codes), "yes" if fmt.for_kernels else "–",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_the_documentation_has_the_table() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "low-precision.md").read_text(encoding="utf-8")
    missing = [row(fmt) for fmt in FORMATS.values() if row(fmt) not in text]
    assert missing == [], "\n".join(["rows that docs/low-precision.md lacks:", *missing])
