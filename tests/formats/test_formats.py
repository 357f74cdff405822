"""Formats against torch and numpy, and their laws; their codes are `test_formats_catalogue`'s."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from precision_lab.formats import FORMATS, FloatFormat, get_format

NUMPY = {"fp32": np.float32, "fp64": np.float64}
ROUNDED = tuple(fmt for fmt in FORMATS.values() if fmt.rounds)
SMALL = tuple(fmt for fmt in ROUNDED if fmt.bits <= 16)
WIDE = tuple(fmt for fmt in ROUNDED if fmt.bits > 16)
TORCH = tuple(fmt for fmt in FORMATS.values() if fmt.torch_name)

small = pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
wide = pytest.mark.parametrize("fmt", WIDE, ids=lambda fmt: fmt.name)
every = pytest.mark.parametrize("fmt", ROUNDED, ids=lambda fmt: fmt.name)
in_torch = pytest.mark.parametrize("fmt", TORCH, ids=lambda fmt: fmt.name)
small_in_torch = pytest.mark.parametrize("fmt", [f for f in TORCH if f.bits <= 16], ids=lambda fmt: fmt.name)
with_nan = pytest.mark.parametrize("fmt", [f for f in SMALL if f.has_nan], ids=lambda fmt: fmt.name)
floats = st.floats(width=64, allow_nan=False)


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal as numbers, NaN with NaN, and zeros with their sign."""
    __tracebackhide__ = True
    both_nan = np.isnan(a) & np.isnan(b)
    differ = ~both_nan & ((a != b) | (np.signbit(a) != np.signbit(b)))
    assert not differ.any(), f"{a[differ][:3]} and {b[differ][:3]}"


def float32_inputs(fmt: FloatFormat) -> np.ndarray:
    """float32 values around every number and every rounding boundary of a small format.

    From float32 and not float64, because ml_dtypes converts a float64 through float32 and
    so rounds twice.
    """
    numbers = np.unique(np.concatenate([fmt.decode(fmt.all_bits()), [0.0]]))
    numbers = numbers[np.isfinite(numbers)]
    ties = (numbers[1:] + numbers[:-1]) / 2
    beyond = fmt.overflow_threshold * np.array([-2.0, -1.0, 1.0, 2.0])
    with np.errstate(over="ignore"):
        points = np.concatenate([numbers, ties, beyond]).astype(np.float32)
        around = [points, np.nextafter(points, np.float32(-np.inf)), np.nextafter(points, np.float32(np.inf))]
    return np.unique(np.concatenate([*around, np.float32([np.inf, -np.inf])]))


def by_torch(values: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    return torch.from_numpy(values).to(getattr(torch, fmt.torch_name)).double().numpy()


# -- bits ---------------------------------------------------------------------------------


@small_in_torch
def test_every_pattern_decodes_as_in_torch(fmt: FloatFormat) -> None:
    integers = fmt.all_bits().view(np.uint8 if fmt.bits == 8 else np.int16)
    theirs = torch.from_numpy(integers).view(getattr(torch, fmt.torch_name)).double().numpy()
    same(fmt.decode(fmt.all_bits()), theirs)


@with_nan
def test_nan_encodes_to_a_nan(fmt: FloatFormat) -> None:
    assert np.isnan(fmt.decode(fmt.encode(np.array([np.nan, -np.nan])))).all()


@wide
@given(bits=st.integers(0, 2**64 - 1))
def test_wide_patterns_decode_as_in_numpy(fmt: FloatFormat, bits: int) -> None:
    pattern = np.array([bits & (fmt.n_patterns - 1)], fmt.bits_dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs are quieted
        theirs = pattern.view(NUMPY[fmt.name]).astype(np.float64)
    ours = fmt.decode(pattern)
    assert np.isnan(ours[0]) == np.isnan(theirs[0])
    if not np.isnan(ours[0]):
        same(ours, theirs)
        assert (fmt.encode(ours) == pattern).all()


@pytest.mark.parametrize("fmt", [f for f in ROUNDED if f.bits < 64], ids=lambda fmt: fmt.name)
def test_a_value_that_is_not_of_the_format_is_refused_by_encode(fmt: FloatFormat) -> None:
    between = 1.0 + 2.0**-fmt.precision
    with pytest.raises(ValueError, match=f"is not a {fmt.name} number; round it first"):
        fmt.encode(np.array([1.0, between]))


def test_a_number_beyond_the_largest_is_refused_by_encode() -> None:
    with pytest.raises(ValueError, match=r"value=480\.0 .* is not a e4m3 number"):
        get_format("e4m3").encode(np.array([480.0]))


def test_infinity_is_refused_by_a_format_without_one() -> None:
    with pytest.raises(ValueError, match="value=inf"):
        get_format("e4m3").encode(np.array([np.inf]))


@wide
def test_all_bits_is_only_for_small_formats(fmt: FloatFormat) -> None:
    with pytest.raises(ValueError, match=rf"2\^{fmt.bits}"):
        fmt.all_bits()


# -- rounding -----------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [f for f in SMALL if f.for_kernels], ids=lambda fmt: fmt.name)
def test_rounding_agrees_with_torch_at_every_boundary(fmt: FloatFormat) -> None:
    inputs = float32_inputs(fmt)
    if fmt.bits == 8:  # torch's FP8 casts clamp or not, depending on release and format
        inputs = inputs[np.abs(inputs) < fmt.overflow_threshold]
    same(fmt.round(inputs.astype(np.float64)), by_torch(inputs, fmt))


@with_nan
def test_a_saturating_rounding_never_overflows_and_changes_nothing_else(fmt: FloatFormat) -> None:
    inputs = float32_inputs(fmt).astype(np.float64)
    saturated, plain = fmt.round(inputs, saturating=True), fmt.round(inputs)
    overflowed = ~np.isfinite(plain)
    assert overflowed.any()
    same(saturated[~overflowed], plain[~overflowed])
    same(saturated[overflowed], np.copysign(fmt.max_finite, inputs[overflowed]))


@pytest.mark.parametrize(
    ("name", "beyond"), [("fp32", np.inf), ("bf16", np.inf), ("fp16", np.inf), ("e5m2", np.inf)]
)
def test_a_tie_at_the_overflow_threshold_goes_up_where_the_largest_significand_is_odd(
    name: str, beyond: float
) -> None:
    fmt = get_format(name)
    threshold = fmt.overflow_threshold
    below = np.nextafter(threshold, 0.0)
    same(fmt.round(np.array([below, threshold, -threshold])), np.array([fmt.max_finite, beyond, -beyond]))


def test_the_tie_at_e4m3s_threshold_goes_to_its_even_largest_number() -> None:
    fmt = get_format("e4m3")
    values = np.array([464.0, np.nextafter(464.0, 500.0), -464.0])
    same(fmt.round(values), np.array([448.0, np.nan, -448.0]))


@pytest.mark.parametrize("fmt", [f for f in ROUNDED if f.bits < 64], ids=lambda fmt: fmt.name)
@given(value=floats)
def test_rounding_is_to_a_nearest_number_with_ties_to_even(fmt: FloatFormat, value: float) -> None:
    rounded = float(fmt.round(np.array([value]))[0])
    if fmt.always_saturates and abs(value) > fmt.max_finite:
        assert rounded == math.copysign(fmt.max_finite, value)
        return
    if abs(value) > fmt.overflow_threshold:
        assert not math.isfinite(rounded)
        return
    if not math.isfinite(rounded):
        assert abs(value) == fmt.overflow_threshold
        return
    below, above = (float(v[0]) for v in fmt.neighbours(np.array([rounded])))
    distance = abs(Fraction(value) - Fraction(rounded))
    for other in (below, above):
        if math.isfinite(other):
            theirs = abs(Fraction(value) - Fraction(other))
            assert distance <= theirs
            if distance == theirs:
                assert int(fmt.encode(np.array([rounded]))[0]) % 2 == 0
    assert math.copysign(1, rounded) == math.copysign(1, value)


@every
@given(a=floats, b=floats)
def test_rounding_is_monotone(fmt: FloatFormat, a: float, b: float) -> None:
    low, high = fmt.round(np.array([min(a, b), max(a, b)]), saturating=True)
    assert low <= high


@every
@given(value=floats)
def test_rounding_twice_is_rounding_once(fmt: FloatFormat, value: float) -> None:
    once = fmt.round(np.array([value]))
    same(fmt.round(once), once)


@given(value=floats)
def test_rounding_to_fp32_is_numpys_conversion(value: float) -> None:
    with np.errstate(over="ignore", under="ignore"):
        theirs = np.array([value]).astype(np.float32).astype(np.float64)
    same(get_format("fp32").round(np.array([value])), theirs)


# -- order, neighbours, ulps --------------------------------------------------------------


@every
@given(a=floats, b=floats)
def test_ordinals_are_ordered_as_the_numbers_are(fmt: FloatFormat, a: float, b: float) -> None:
    pair = fmt.round(np.array([a, b]), saturating=True)
    first, second = fmt.ordinal(pair)
    assert (first < second) == (pair[0] < pair[1])
    assert (first == second) == (pair[0] == pair[1])


@every
def test_nan_has_no_ordinal(fmt: FloatFormat) -> None:
    with pytest.raises(ValueError, match="NaN"):
        fmt.ordinal(np.array([1.0, np.nan]))


@wide
@given(value=floats)
def test_wide_neighbours_are_numpys(fmt: FloatFormat, value: float) -> None:
    kind = NUMPY[fmt.name]
    point = fmt.round(np.array([value]))
    with np.errstate(over="ignore", under="ignore"):
        narrow = point.astype(kind)
        theirs = [np.nextafter(narrow, kind(end)).astype(np.float64) for end in (-np.inf, np.inf)]
    for ours, numpys, end in zip(fmt.neighbours(point), theirs, (-np.inf, np.inf), strict=True):
        # Beyond an infinity there is nothing; numpy steps back from one that it is asked to leave.
        assert ours[0] == (end if point[0] == end else numpys[0])


@small
def test_an_ulp_is_the_gap_above_the_largest_number_not_above_the_magnitude(fmt: FloatFormat) -> None:
    """Independently of exponents: of the two numbers that enclose |v|, the gap between them."""
    values = fmt.decode(fmt.all_bits())
    numbers = np.unique(values[np.isfinite(values) & (values >= 0)])
    gaps = np.diff(numbers)
    assert (fmt.ulp(numbers[:-1]) == gaps).all()
    assert (fmt.ulp(-numbers[:-1]) == gaps).all()
    between = numbers[:-1] + gaps * 0.75
    assert (fmt.ulp(between) == gaps).all()


@wide
@given(value=st.floats(width=64, allow_nan=False, allow_infinity=False))
def test_wide_ulps_are_numpys_spacing(fmt: FloatFormat, value: float) -> None:
    point = fmt.round(np.array([value]), saturating=True)
    if abs(point[0]) == fmt.max_finite:
        return  # numpy's spacing of the largest number is infinite
    theirs = np.spacing(np.abs(point).astype(NUMPY[fmt.name])).astype(np.float64)
    assert fmt.ulp(point)[0] == theirs[0]


@in_torch
def test_limits_are_those_of_the_dtype(fmt: FloatFormat) -> None:
    info = torch.finfo(getattr(torch, fmt.torch_name))
    assert fmt.max_finite == info.max
    assert fmt.min_normal == info.tiny
    assert fmt.min_subnormal == info.smallest_normal * info.eps
    assert fmt.unit_roundoff == info.eps / 2
    assert fmt.bits == info.bits


@every
def test_the_largest_ordinal_is_that_of_the_largest_number(fmt: FloatFormat) -> None:
    assert fmt.ordinal(np.array([fmt.max_finite]))[0] == fmt.max_ordinal
    assert fmt.from_ordinal(np.array([fmt.max_ordinal]))[0] == fmt.max_finite


# -- registry -----------------------------------------------------------------------------


def test_no_two_formats_share_a_name_or_a_torch_dtype() -> None:
    assert [name for name, fmt in FORMATS.items() if fmt.name != name] == []
    names = [fmt.torch_name for fmt in FORMATS.values() if fmt.torch_name is not None]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("bf61", "bf16"), ("fp23", "fp32"), ("e4m3fn", "e4m3"), ("float", "fp32"), ("q", "known: bf16")],
)
def test_an_unknown_format_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{wrong}'.*{near}"):
        get_format(wrong)


def test_a_format_stands_for_itself() -> None:
    fmt = get_format("bf16")
    assert get_format(fmt) is fmt


@pytest.mark.parametrize(
    "fault",
    [
        lambda v: np.where(v == v, np.float64(1), v),
        lambda v: np.abs(v),
        lambda v: np.nan_to_num(v),
    ],
    ids=["constant", "sign lost", "NaN and infinity lost"],
)
def test_the_comparison_used_here_notices_planted_faults(fault: Callable[[np.ndarray], np.ndarray]) -> None:
    values = get_format("bf16").decode(get_format("bf16").all_bits())
    with pytest.raises(AssertionError):
        same(fault(values), values)
