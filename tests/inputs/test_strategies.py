"""The public Hypothesis strategies draw what is legal, reach every edge, and shrink to what is simple."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from precision_lab.formats import FORMATS, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.inputs import sets, strategies
from precision_lab.oracle.plain_roots import roots_of

torch = pytest.importorskip("torch")

QUICK = settings(max_examples=50, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("fmt", [name for name, fmt in FORMATS.items() if fmt.rounds])
@QUICK
@given(st.data())
def test_floats_are_values_of_the_format(fmt, data):
    x = np.array([data.draw(strategies.floats(fmt, allow_nan=True, allow_infinity=True))])
    target = get_format(fmt)
    np.testing.assert_array_equal(target.decode(target.encode(x)), x)


@pytest.mark.parametrize("fmt", [name for name, fmt in FORMATS.items() if fmt.rounds])
def test_floats_shrink_to_one_and_reach_the_subnormals(fmt):
    target = get_format(fmt)
    assert find(strategies.floats(fmt), lambda x: x != 0) == 1.0
    assert find(strategies.floats(fmt), lambda x: x < 0) == -1.0
    assert find(strategies.floats(fmt), lambda x: 0 < abs(x) < target.min_normal) > 0
    assert find(strategies.floats(fmt), lambda x: x > 1.2) in (1.25, 1.5, 2.0)


@QUICK
@given(strategies.floats("bf16", min_value=-0.3, max_value=-0.1))
def test_limits_hold(x):
    assert -0.3 <= x <= -0.1


def test_limits_with_nothing_between_them_are_refused():
    with pytest.raises(ValueError, match=r"min_value=1.001, max_value=1.002: no bf16 between them"):
        strategies.floats("bf16", min_value=1.001, max_value=1.002)


@QUICK
@given(strategies.near_zero_negative("fp16"))
def test_near_zero_negative_is(x):
    assert -sets.NEAR_ZERO <= x < 0


@QUICK
@given(strategies.near_root("bf16", "xielu", None, "grad_x"))
def test_near_root_is_within_64_floats_of_one(x):
    target = get_format("bf16")
    (root,) = roots_of(get_function("xielu"), "grad_x", get_function("xielu").check_params())
    distance = target.ordinal(np.array([x])) - target.ordinal(target.round(np.array([root])))
    assert abs(int(distance[0])) <= 64


def test_a_function_without_roots_has_no_inputs_near_them():
    assert strategies.near_root("bf16", "softplus").is_empty


def test_hard_to_round_inputs_are_the_hardest():
    from precision_lab.oracle import reference

    target = get_format("bf16")
    items = (("alpha_n", 0.8), ("alpha_p", 0.8), ("beta", 0.5))
    x = np.array(strategies._hard(target, get_function("xielu"), "forward", items))
    tails = np.abs(reference("xielu", "forward", None, x, target).tail)
    everything = target.decode(target.all_bits())
    exact = reference("xielu", "forward", None, everything[np.isfinite(everything)], target)
    usable = np.isfinite(exact.rounded) & (np.abs(exact.exact) >= target.min_normal)
    distances = np.sort(np.abs(np.abs(exact.tail[usable]) - 0.5))
    assert x.size == strategies.HARD
    assert np.abs(tails - 0.5).max() == distances[strategies.HARD - 1]


@pytest.mark.parametrize("function", FUNCTIONS)
@QUICK
@given(st.data())
def test_parameters_are_legal_and_stay_so_when_rounded(function, data):
    values = data.draw(strategies.parameters(function, "fp16"))
    definition, target = get_function(function), get_format("fp16")
    assert definition.check_params(values) == values
    definition.check_params({k: float(target.round(np.array([v]))[0]) for k, v in values.items()})


@QUICK
@given(strategies.parameters("xielu", "e4m3"))
def test_small_parameters_stay_positive_in_a_narrow_format(values):
    """2^-10 and less round to 0 in E4M3, which a positive parameter may not be."""
    target = get_format("e4m3")
    assert all(target.round(np.array([values[name]]))[0] > 0 for name in ("alpha_p", "alpha_n"))


def test_small_parameters_are_drawn_where_the_format_has_them():
    drawn = find(strategies.parameters("xielu", "e4m3"), lambda p: p["alpha_p"] < 2.0**-6)
    assert get_format("e4m3").round(np.array([drawn["alpha_p"]]))[0] > 0
    assert find(strategies.parameters("xielu", "bf16"), lambda p: p["alpha_p"] < 2.0**-12)


def test_parameters_shrink_to_the_defaults_and_reach_beyond_the_named_sets():
    drawn = strategies.parameters("xielu")
    assert find(drawn, lambda p: True) == get_function("xielu").check_params()
    assert find(drawn, lambda p: p["alpha_p"] < 0.01)["alpha_n"] == 0.8
    assert find(drawn, lambda p: p["alpha_n"] == p["beta"] != 0.5)


@QUICK
@given(strategies.shapes(max_elements=300), strategies.layouts())
def test_layouts_change_where_elements_lie_and_not_what_they_are(shape, layout):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    assert torch.equal(layout.make(x), x)


def test_shapes_and_layouts_reach_what_kernels_forget():
    assert find(strategies.shapes(), lambda shape: 0 in shape) == (0,)
    assert find(strategies.shapes(), lambda shape: True) == ()
    x = torch.arange(12.0).reshape(3, 4)
    assert (
        not find(strategies.layouts(), lambda layout: not layout.make(x).is_contiguous())
        .make(x)
        .is_contiguous()
    )
    assert find(strategies.layouts(), lambda layout: layout.make(x).storage_offset() == 3).name == "offset 3"


def test_profiles_are_registered_only_when_asked_for():
    strategies.register_profiles()
    assert settings.get_profile("precision-ci").derandomize
    assert settings.get_profile("precision-explore").max_examples == 5000
