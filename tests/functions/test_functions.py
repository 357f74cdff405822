"""Definitions keep their own promises: limits, roots, laws, continuity, constraints.

The exhaustive run adds the roots with every second set of parameters.
"""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from turns import one_in

import precision_lab as pl
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.functions.basis import BASIS
from precision_lab.oracle.certified import limit_of
from precision_lab.oracle.plain_roots import edges_of, roots_of
from precision_lab.oracle.roots import MOST

CASES = [
    pytest.param(function, name, id=f"{function.name}-{name}")
    for function in FUNCTIONS.values()
    for name in function.parameter_sets
]
OUTPUTS = [
    pytest.param(function, output, id=f"{function.name}-{output}")
    for function in FUNCTIONS.values()
    for output in function.outputs + function.raw_outputs
]


def value(function, x, params, output="forward", bits=80):
    return pl.evaluate(function, x, params, output=output, bits=bits)


def limit_at(function, output, params, sign):
    """By the terms of a sum of basis functions, else as proven of the formula."""
    if function.has_terms(output):
        return function.limit(output, params, sign)
    return limit_of(function, output, params, sign)


def reachable(function, output, params):
    """Whether the parameters have raw values, where raw gradients are asked."""
    try:
        function.raw_factor_argument(output, params)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("function", "name"), CASES)
def test_outputs_far_out_are_at_their_limit(function, name):
    params = function.check_params(function.parameter_sets[name])
    for output in function.outputs:
        for sign in (-1, 1):
            limit = limit_at(function, output, params, sign)
            far = value(function, sign * 1e30, params, output)
            if math.isnan(limit):
                assert mpmath.isnan(far) or output in function.limits
            elif math.isinf(limit):
                assert far * limit > 0
                assert abs(far) > 1e28 or function.name == "log1p"
            else:
                # Everything that vanishes here does so at least as fast as 1/√x.
                assert abs(far - limit) < (1e-14 if function.name == "rsqrt" else 1e-15) * (1 + abs(limit))


@pytest.mark.parametrize(("function", "output"), OUTPUTS)
def test_infinity_gives_the_limit_and_nan_gives_nan(function, output):
    params = function.check_params()
    for sign in (-1, 1):
        limit, found = (
            limit_at(function, output, params, sign),
            value(function, sign * math.inf, params, output),
        )
        assert found == limit or (mpmath.isnan(found) and math.isnan(limit))
    assert mpmath.isnan(value(function, math.nan, params, output))


@pytest.mark.parametrize(("function", "name"), one_in(2, CASES))
def test_roots_are_changes_of_sign_and_none_is_missing(function, name):
    params = function.check_params(function.parameter_sets[name])
    for output in function.outputs:
        roots = roots_of(function, output, params)
        for root in roots:
            below, above = np.nextafter(root, -np.inf), np.nextafter(root, np.inf)
            assert (
                value(function, float(below), params, output) * value(function, float(above), params, output)
                < 0
            )
        grid = np.concatenate([-np.geomspace(1e3, 1e-6, 60), np.geomspace(1e-6, 1e3, 60)])
        signs = [mpmath.sign(value(function, float(x), params, output, bits=20)) for x in grid]
        for side in (grid < 0, grid > 0):
            chosen = [s for s, keep in zip(signs, side, strict=True) if keep]
            changes = sum(a * b < 0 for a, b in itertools.pairwise(chosen))
            if len(roots) == MOST:  # of a function that goes on and on the nearest are named
                continue
            assert changes == sum((root < 0) == bool((grid[side] < 0).all()) for root in roots)


@pytest.mark.parametrize("name", FUNCTIONS["xielu"].parameter_sets)
def test_gradient_root_of_xielu_is_where_the_paper_puts_it(name):
    params = FUNCTIONS["xielu"].parameter_sets[name]
    roots = roots_of(FUNCTIONS["xielu"], "grad_x", params)
    if params["alpha_n"] > params["beta"]:
        assert roots == pytest.approx((math.log1p(-params["beta"] / params["alpha_n"]),), rel=1e-15)
    else:
        assert roots == ()


@pytest.mark.parametrize(("function", "name"), CASES)
def test_laws_hold(function, name):
    params = function.check_params(function.parameter_sets[name])
    for law in function.laws:
        gradient_roots = roots_of(function, "grad_x", params)
        places = {
            "-inf": -50.0,
            "inf": 50.0,
            "0": 0.0,
            "root_gradient": gradient_roots[-1] if gradient_roots else -50.0,
        }
        lo = places[law.lo] if law.lo in places else float(law.lo)
        hi = places[law.hi] if law.hi in places else float(law.hi)
        values = [value(function, float(x), params, law.output) for x in np.linspace(lo, hi, 41)]
        steps = [b - a for a, b in itertools.pairwise(values)]
        assert (
            all(step >= 0 for step in steps) if law.direction == "increasing" else all(s <= 0 for s in steps)
        )


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_continuity_at_zero_is_as_declared(function):
    # Uncommon values, since ELU's gradient happens to be continuous at alpha = 1.
    params = {name: 1.25 * v for name, v in function.check_params().items()}
    for output in function.outputs:
        gap = abs(value(function, 1e-300, params, output) - value(function, -1e-300, params, output))
        if mpmath.isnan(gap):
            assert function.domain != "all real x"
        elif output in function.continuous:
            # A value is certified to 80 bits.
            assert gap < 1e-22
        else:
            assert gap > 1e-3


@pytest.mark.parametrize(("function", "output"), OUTPUTS)
def test_both_zeros_have_one_value(function, output):
    params = function.check_params()
    assert value(function, 0.0, params, output) == value(function, -0.0, params, output)


@pytest.mark.parametrize(("function", "output"), OUTPUTS)
def test_gradients_are_what_a_difference_quotient_tends_to(function, output):
    """Central differences at 300 bits: error about h² = 2^-160, far above working noise."""
    params = function.check_params()
    if output == "forward" or not reachable(function, output, params):
        return
    h = 2.0**-40
    for x in (-3.0, -0.75, -0.125, 0.125, 1.5, 4.0):
        got = value(function, x, params, output, bits=200)
        if x in edges_of(function, params) or mpmath.isnan(value(function, x, params)):
            continue
        if output == "grad_x":
            up, down = (value(function, x + s * h, params, bits=300) for s in (1, -1))
            step = mpmath.mpf(2 * h)
        elif output.startswith("grad_raw_"):
            continue  # checked against Arb, and below
        else:
            name = output.removeprefix("grad_")
            up, down = (value(function, x, {**params, name: params[name] + s * h}, bits=300) for s in (1, -1))
            with mpmath.workprec(300):
                step = mpmath.mpf(params[name] + h) - mpmath.mpf(params[name] - h)
        with mpmath.workprec(300):
            assert abs((up - down) / step - got) <= mpmath.mpf(2) ** -70 * (1 + abs(got))


def test_raw_gradients_follow_the_chain_rule_through_softplus():
    params = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
    with mpmath.workprec(200):
        for output, theta, base in (("alpha_p", 0.8, 0.0), ("alpha_n", 0.8, 0.5)):
            raw = mpmath.log(mpmath.expm1(mpmath.mpf(theta) - mpmath.mpf(base)))
            slope = 1 / (1 + mpmath.exp(-raw))
            for x in (-2.0, 3.0):
                effective = value("xielu", x, params, f"grad_{output}", bits=150)
                assert (
                    abs(value("xielu", x, params, f"grad_raw_{output}", bits=150) - slope * effective) < 1e-40
                )


def test_alpha_n_below_beta_has_no_raw_value():
    with pytest.raises(ValueError, match=r"alpha_n=0\.4 has no raw value"):
        pl.evaluate("xielu", -1.0, {"alpha_n": 0.4}, output="grad_raw_alpha_n")


def test_every_basis_function_is_used_or_is_a_derivative():
    used = {
        term.basis
        for function in FUNCTIONS.values()
        for output in function.outputs
        if function.has_terms(output)
        for side in ("negative", "positive")
        for term in function.terms(output, side)
    }
    assert used == set(BASIS)


@pytest.mark.parametrize("bits", [1, 0, -5])
def test_too_few_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits}"):
        pl.evaluate("xielu", 1.0, bits=bits)


def test_inputs_that_are_no_float64_are_refused():
    with mpmath.workprec(200), pytest.raises(ValueError, match="not a float64 number"):
        pl.evaluate("xielu", mpmath.mpf(1) / 3)


def test_unknown_function_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown function 'xielo'; did you mean.*xielu"):
        get_function("xielo")


@pytest.mark.parametrize(
    ("name", "equations"),
    [
        ("elu", "equation 1"),
        ("relu2", "equations 2-3"),
        ("xsilu", "equation 4"),
        ("xielu", "section 3, equations 6-9"),
        ("xiprelu", "section 3, equations 10-12"),
    ],
)
def test_sources_name_the_papers_own_equations(name, equations):
    """xIELU's and xIPReLU's were once exchanged."""
    assert get_function(name).source.endswith(f"arXiv 2411.13010, {equations}")
