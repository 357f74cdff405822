"""Input sets: what they must contain, and the region of every input.

The exhaustive run adds the reasons of the directed cases of two functions in three.
"""

from __future__ import annotations

import subprocess
import sys

import by_name
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from turns import one_in

from precision_lab.formats import FORMATS, FloatFormat, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.inputs import sets as inputs
from precision_lab.oracle.plain_roots import roots_of

ROUNDED = tuple(fmt for fmt in FORMATS.values() if fmt.rounds)
SMALL = tuple(fmt for fmt in ROUNDED if fmt.bits <= 16)
WIDE = tuple(fmt for fmt in ROUNDED if fmt.bits > 16)
every = pytest.mark.parametrize("fmt", ROUNDED, ids=lambda fmt: fmt.name)
XIELU_SETS = tuple(get_function("xielu").parameter_sets.items())
sets = pytest.mark.parametrize("params", [p for _, p in XIELU_SETS], ids=[name for name, _ in XIELU_SETS])


def values_of(cases: list[inputs.DirectedCase], fmt: FloatFormat) -> np.ndarray:
    return fmt.decode(np.array([case.bits for case in cases], fmt.bits_dtype))


def directed_values(fmt: FloatFormat, params: dict[str, float] | None = None) -> set[float]:
    found = values_of(by_name.directed(fmt, "xielu", params), fmt)
    return set(found[~np.isnan(found)].tolist())


def around(fmt: FloatFormat, point: float, reach: int) -> set[float]:
    """The number nearest to `point` and `reach` of its neighbours on each side, if finite."""
    found = [fmt.round(np.array([point]))]
    for side in (0, 1):
        value = found[0]
        for _ in range(reach):
            value = fmt.neighbours(value)[side]
            found.append(value)
    return {float(v[0]) for v in found if np.isfinite(v[0])}


# -- exhaustive ---------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_exhaustive_is_every_pattern_once(fmt: FloatFormat) -> None:
    bits = by_name.exhaustive(fmt)
    assert bits.size == 2**fmt.bits == np.unique(bits).size


@pytest.mark.parametrize("fmt", WIDE, ids=lambda fmt: fmt.name)
def test_exhaustive_is_refused_for_wide_formats_with_the_remedy(fmt: FloatFormat) -> None:
    with pytest.raises(ValueError, match=rf"2\^{fmt.bits} patterns of {fmt.name}.*'stratified'"):
        by_name.exhaustive(fmt)


# -- directed -----------------------------------------------------------------------------


@every
def test_directed_cases_have_both_zeros_the_infinities_and_a_nan(fmt: FloatFormat) -> None:
    bits = {case.bits for case in by_name.directed(fmt, "xielu")}
    assert {0, fmt.sign_mask} <= bits
    values = fmt.decode(np.array(sorted(bits), fmt.bits_dtype))
    assert np.isnan(values).any() == fmt.has_nan
    assert {np.inf, -np.inf} <= set(values[np.isinf(values)].tolist()) or not fmt.has_infinity


@every
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_directed_cases_have_every_edge_of_the_format(fmt: FloatFormat, sign: float) -> None:
    needed = around(fmt, sign * fmt.min_subnormal, 1)
    needed |= around(fmt, sign * fmt.min_normal, 1)
    needed |= around(fmt, sign * fmt.max_finite, 1)
    needed |= around(fmt, sign, 1)
    for exponent in range(fmt.emin, fmt.emax + 1):
        needed |= around(fmt, sign * 2.0**exponent, 1)
    assert needed - directed_values(fmt) == set()


@every
def test_directed_cases_have_both_sides_of_the_clamps_eps(fmt: FloatFormat) -> None:
    needed = around(fmt, -inputs.EPS, 1) | around(fmt, inputs.EPS, 1)
    assert needed - directed_values(fmt) == set()


@every
@sets
@pytest.mark.parametrize("output", ["forward", "grad_x"])
def test_directed_cases_have_both_sides_of_every_root(
    fmt: FloatFormat, params: dict[str, float], output: str
) -> None:
    found = directed_values(fmt, params)
    for root in roots_of(get_function("xielu"), output, params):
        assert around(fmt, root, 3) - found == set()


def test_the_parameter_sets_include_one_with_roots_and_one_without() -> None:
    roots = {name: roots_of(get_function("xielu"), "grad_x", params) for name, params in XIELU_SETS}
    assert roots["init"]
    assert not roots["rootless"]


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
@sets
def test_directed_cases_straddle_the_point_where_the_square_overflows(
    name: str, params: dict[str, float]
) -> None:
    fmt = get_format(name)
    found = np.array(sorted(v for v in directed_values(fmt, params) if np.isfinite(v) and v > 1))
    with np.errstate(over="ignore"):
        overflows = np.abs(params["alpha_p"] * found * found) > fmt.max_finite
    edge = int(np.argmax(overflows))
    assert overflows.any()
    assert edge > 0
    # The threshold lies between two adjacent numbers, and both are there.
    assert fmt.ordinal(found[edge : edge + 1])[0] - fmt.ordinal(found[edge - 1 : edge])[0] == 1


@every
@pytest.mark.parametrize("function", one_in(3, FUNCTIONS))
def test_every_directed_case_says_why_and_occurs_once(fmt: FloatFormat, function: str) -> None:
    cases = by_name.directed(fmt, function)
    assert len({case.bits for case in cases}) == len(cases)
    assert all(case.reason for case in cases)


# -- stratified ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fp32", "bf16", "e4m3"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_stratified_has_inputs_in_every_binade_subnormal_ones_too(name: str, sign: int) -> None:
    fmt = get_format(name)
    values = fmt.decode(by_name.stratified(fmt, "xielu", per_binade=4))
    values = values[np.isfinite(values) & (values != 0)]
    _, exponents = np.frexp(values[np.sign(values) == sign])
    lowest = fmt.emin - fmt.fraction_bits
    counts = {e: int(np.count_nonzero(exponents - 1 == e)) for e in range(lowest, fmt.emax + 1)}
    # A binade with fewer numbers than were asked for is there as a whole.
    size = {e: 2 ** min(e - lowest, fmt.fraction_bits) for e in counts}
    size[fmt.emax] = fmt.max_significand - 2**fmt.fraction_bits + 1
    assert {e: n for e, n in counts.items() if n < min(3, size[e])} == {}


def test_stratified_asks_for_at_least_what_it_is_told_in_a_wide_binade() -> None:
    fmt = get_format("fp32")
    values = fmt.decode(by_name.stratified(fmt, "xielu", per_binade=200))
    inside = np.count_nonzero((values >= 2.0) & (values < 4.0))
    assert 195 <= inside <= 220  # random ones may coincide; directed ones come on top


@every
@sets
def test_stratified_contains_every_directed_case(fmt: FloatFormat, params: dict[str, float]) -> None:
    bits = set(by_name.stratified(fmt, "xielu", params, per_binade=2).tolist())
    assert {case.bits for case in by_name.directed(fmt, "xielu", params)} - bits == set()


def test_stratified_draws_from_the_largest_binade_as_from_any_other() -> None:
    """Not only its edges, which are directed cases."""
    x = np.abs(get_format("fp32").decode(by_name.stratified("fp32", "silu", {}, per_binade=32)))
    assert np.count_nonzero((x >= 2.0**127) & np.isfinite(x)) >= 2 * 30


def test_stratified_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from precision_lab.formats import FP32; from precision_lab.functions import XIELU; "
        "from precision_lab.inputs.sets import stratified; "
        "print(hashlib.sha256(stratified(FP32, XIELU).tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


@pytest.mark.parametrize("per_binade", [0, -3])
def test_stratified_needs_at_least_one_per_binade(per_binade: int) -> None:
    with pytest.raises(ValueError, match=f"per_binade={per_binade}"):
        by_name.stratified("fp32", "xielu", per_binade=per_binade)


# -- specs --------------------------------------------------------------------------------


def test_the_name_of_a_set_is_its_spec() -> None:
    name, bits = by_name.input_set("stratified:5", "fp32", "xielu", None)
    assert name == "stratified:5"
    assert (bits == by_name.stratified("fp32", "xielu", per_binade=5)).all()


def test_an_array_is_taken_as_values_of_the_format() -> None:
    name, bits = by_name.input_set(np.array([1.0, -0.0]), "bf16", "xielu", None)
    assert name == "array"
    assert bits.tolist() == [0x3F80, 0x8000]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stratified:many", "must be a positive whole number"),
        ("stratified:-1", "must be a positive whole number"),
        ("stratified:0", "per_binade=0"),
        ("exhaustiv", "did you mean exhaustive"),
        ("exhaustive:3", "unknown inputs"),
        ("random", "stratified"),
        (np.array([]), "nothing to measure"),
        (np.array([0.1]), "is not a bf16 number"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_named(spec: str | np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_name.input_set(spec, "bf16", "xielu", None)


# -- regions ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_every_input_lies_in_exactly_one_region(fmt: FloatFormat, function: str) -> None:
    x = fmt.decode(fmt.all_bits())
    for params in get_function(function).parameter_sets.values():
        names, index = by_name.regions(x, fmt, function, params)
        assert names == inputs.REGIONS
        assert index.shape == x.shape
        assert index.min() >= 0
        assert index.max() < len(names)


@given(x=st.floats(width=32))
def test_every_fp32_input_lies_in_a_region(x: float) -> None:
    _, index = by_name.regions(np.array([x]), "fp32", "xielu", None)
    assert 0 <= index[0] < len(inputs.REGIONS)


def region(x: float, fmt: str = "bf16", function: str = "xielu") -> str:
    target = get_format(fmt)
    names, index = by_name.regions(target.round(np.array([x])), target, function, None)
    return names[int(index[0])]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (float("nan"), "special"),
        (float("-inf"), "special"),
        (0.0, "zero"),
        (-0.0, "zero"),
        (1e-39, "subnormal_input"),
        (-1e-39, "subnormal_input"),
        (-1e-7, "eps_zone"),
        (-9.5e-7, "eps_zone"),
        (-1e-6, "near_zero_negative"),
        (-0.0625, "near_zero_negative"),
        (-0.07, "rest_negative"),
        (-16.0, "rest_negative"),
        (-16.25, "far_tail"),
        (-1e30, "far_tail"),
        (1e-7, "positive"),
        (3e38, "positive"),
    ],
)
def test_regions_are_where_they_are_said_to_be(x: float, expected: str) -> None:
    assert region(x) == expected


def test_the_roots_regions_are_two_per_cent_around_each_root() -> None:
    # grad_x = α(eˣ−1) + β has its root at ln(1−β/α) = ln(3/8); forward's solves α(eˣ−1−x) + βx = 0.
    definition = get_function("xielu")
    (gradient,) = roots_of(definition, "grad_x", definition.check_params())
    (forward,) = roots_of(definition, "forward", definition.check_params())
    assert gradient == np.log(0.375)
    for root, name in ((gradient, "root_gradient"), (forward, "root_forward")):
        assert region(root, "fp32") == name
        for factor, expected in ((1.019, name), (0.981, name), (1.021, "rest_negative")):
            assert region(root * factor, "fp32") == expected


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "e4m3"])
@pytest.mark.parametrize("function", ["xielu", "silu", "relu"])
def test_cells_lie_in_one_binade_and_one_region(fmt: str, function: str) -> None:
    source, definition = get_format(fmt), get_function(function)
    params = definition.check_params()
    bits = source.all_bits()
    x = source.decode(bits)
    found = by_name.cells(source, function, params)
    cell = np.searchsorted(found.starts, bits.astype(np.uint64), side="right") - 1
    ordinary = np.isfinite(x) & (x != 0)
    exponent = np.frexp(np.where(ordinary, x, 1.0))[1] - 1
    assert np.array_equal(found.region[cell], by_name.regions(x, source, definition, params)[1])
    assert np.array_equal(found.sign[cell], np.where(ordinary, np.sign(x), 0))
    assert np.array_equal(found.exponent[cell], np.where(ordinary, exponent, 0))


def test_a_function_without_roots_has_no_root_region() -> None:
    x = get_format("bf16").decode(get_format("bf16").all_bits())
    names, index = by_name.regions(x, "bf16", "relu", None)
    used = {names[i] for i in np.unique(index)}
    assert not used & {"root_forward", "root_gradient"}
