"""Every definition and gradient against its independent Arb witness, at 200 bits, in exact arithmetic.

By default one output in three is compared at the edges; the exhaustive run adds the others, and twenty times
as many random points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from arb_witness import DOMAIN, FORMULAS, RAW, arithmetic, to_arb, witness
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from turns import one_in

import precision_lab as pl
from precision_lab.formats import get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.oracle.plain_roots import roots_of

BITS = 200
# The witness works this much finer, so that its radius never decides the comparison.
WITNESS_BITS = BITS + 64

CASES = [
    pytest.param(name, output, id=f"{name}-{output}")
    for name, function in FUNCTIONS.items()
    for output in function.outputs + function.raw_outputs
]


def agrees(value: Any, ball: arb) -> bool:
    """Whether |value − exact| ≤ 2^-199 |exact| is certain; a zero must be exactly zero."""
    with arithmetic(4 * BITS):
        if ball.is_zero():
            return bool(value == 0)
        return bool(abs(to_arb(value) - ball) <= abs(ball) * arb(2) ** (1 - BITS))


def check(name: str, output: str, x: float, params: dict[str, float]) -> None:
    """Fails, naming both values, where the definition and the witness differ."""
    value = pl.evaluate(name, x, params, output=output, bits=BITS)
    end = DOMAIN.get(name, -math.inf)
    if x < end and output != "forward":
        assert mpmath.isnan(value)  # no derivative where there is no function, whatever its formula gives
        return
    if x <= end and not mpmath.isfinite(value):
        with pytest.raises(ArithmeticError):  # nor has the witness a value there
            witness(name, output, x, params, WITNESS_BITS)
        return
    ball = witness(name, output, x, params, WITNESS_BITS)
    assert agrees(value, ball), (
        f"{name} {output} at x={x!r} ({x.hex()}), {params}: "
        f"definition {mpmath.nstr(value, 40)}, witness {ball.str(40)}"
    )


def reachable(name: str, output: str, params: dict[str, float]) -> bool:
    """Whether the output exists: a raw gradient needs effective values its softplus can give."""
    if not output.startswith("grad_raw_"):
        return True
    kind = RAW[name][output.removeprefix("grad_raw_")]
    return kind != "above beta" or params["alpha_n"] > params["beta"]


def parameter_sets(name: str) -> Iterator[dict[str, float]]:
    """The named sets, then equal values (alpha_n == beta), tiny, huge, barely above beta."""
    function = get_function(name)
    yield from (function.check_params(dict(values)) for values in function.parameter_sets.values())
    names = [p.name for p in function.parameters]
    for value in (0.5, 2.0**-1074, 1e30) if names else ():
        yield function.check_params(dict.fromkeys(names, value))
    if "alpha_n" in names:
        for value in (math.nextafter(0.5, 1), math.nextafter(0.5, 0), 1e-300):
            yield function.check_params({"alpha_n": value})


def edges() -> list[float]:
    """±0, powers of two down to the smallest subnormal, ±1 and neighbours, and the far ends."""
    magnitudes = [2.0**-k for k in (*range(0, 160, 12), *range(160, 1074, 117), 1022, 1073, 1074)]
    magnitudes += [1e-6, 1e-30, 1e-300, 1 + 2.0**-52, 1 - 2.0**-53, 3.0, 16.0, 88.7228, 709.8, 745.2, 65504.0]
    magnitudes += [1e8, 1e30, get_format("fp32").max_finite]
    return [0.0, -0.0] + [s * m for m in magnitudes for s in (-1.0, 1.0)]


def around_roots(name: str, output: str, params: dict[str, float]) -> list[float]:
    """Each root of the output as fp32 and fp64 number, and its two neighbours."""
    roots = roots_of(get_function(name), output, params)
    points: list[float] = []
    for fmt in (get_format("fp32"), get_format("fp64")):
        nearest = fmt.round(np.array(roots, np.float64))
        points += [float(x) for side in (nearest, *fmt.neighbours(nearest)) for x in side if math.isfinite(x)]
    return points


@pytest.mark.parametrize(("name", "output"), one_in(3, CASES))
def test_definition_agrees_with_arb_at_the_edges(name: str, output: str) -> None:
    for n, params in enumerate(parameter_sets(name)):
        if not reachable(name, output, params):
            with pytest.raises(ValueError):
                pl.evaluate(name, -1.0, params, output=output, bits=BITS)
            continue
        # All edges for the initial parameters; for the others every fifth, a different fifth each.
        points = edges() if n == 0 else edges()[n % 5 :: 5]
        if not output.startswith("grad_raw_"):
            points += around_roots(name, output, params)
        for x in points:
            check(name, output, x, params)


def floats_over_binades(lowest: int, highest: int, *, positive: bool = False) -> st.SearchStrategy[float]:
    """Floats with a uniform exponent: every binade is as likely as any other."""
    magnitude = st.builds(
        lambda significand, exponent: math.ldexp(significand, exponent - 52),
        st.integers(2**52, 2**53 - 1),
        st.integers(lowest, highest),
    )
    return magnitude if positive else st.builds(math.copysign, magnitude, st.sampled_from((-1.0, 1.0)))


@pytest.mark.parametrize(("name", "output"), CASES)
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_definition_agrees_with_arb_on_random_points(name: str, output: str, data: st.DataObject) -> None:
    check_at_random(name, output, data)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "output"), CASES)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_definition_agrees_with_arb_on_many_points(name: str, output: str, data: st.DataObject) -> None:
    check_at_random(name, output, data)


def check_at_random(name: str, output: str, data: st.DataObject) -> None:
    function = get_function(name)
    x = data.draw(st.one_of(floats_over_binades(-1021, 99), floats_over_binades(-24, 6)), label="x")
    drawn = {
        p.name: data.draw(floats_over_binades(-30, 12, positive=True), label=p.name)
        for p in function.parameters
    }
    params = function.check_params(drawn)
    if reachable(name, output, params):
        check(name, output, x, params)


def test_every_function_has_a_witness() -> None:
    assert set(FORMULAS) == set(FUNCTIONS), (
        "write the formula of the new function in tests/helpers/arb_witness.py"
    )


def test_raw_parameters_of_definition_and_witness_are_the_same() -> None:
    for name, function in FUNCTIONS.items():
        expected = {f"grad_raw_{parameter}" for parameter in RAW.get(name, {})}
        assert set(function.raw_outputs) == expected, f"{name}: see RAW in tests/helpers/arb_witness.py"


@pytest.mark.parametrize("x", [-1e-30, -1.0, 1e30])
def test_the_comparison_notices_the_199th_bit(x: float) -> None:
    params = get_function("xielu").check_params({})
    value = pl.evaluate("xielu", x, params, output="forward", bits=400)
    ball = witness("xielu", "forward", x, params, WITNESS_BITS)
    context = mpmath.MPContext()
    context.prec = 400
    exact = context.make_mpf(value._mpf_)
    assert agrees(exact, ball)
    assert not agrees(exact * (1 + context.ldexp(1, 3 - BITS)), ball)
    assert not agrees(-exact, ball)
    assert not agrees(context.mpf(0), ball)
    assert not agrees(exact, witness("xielu", "grad_alpha_p", -1.0, params, BITS))  # an exact zero


def test_an_expanded_series_derivative_is_not_the_naive_one() -> None:
    """The witness's d/d(raw alpha_n) contains the softplus factor, its d/d(alpha_n) does not."""
    params = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
    effective = witness("xielu", "grad_alpha_n", -1.0, params, BITS)
    raw = witness("xielu", "grad_raw_alpha_n", -1.0, params, BITS)
    with arithmetic(WITNESS_BITS):
        # softplus(a) = 0.3 gives sigmoid(a) = 1 - e^-0.3, the decimal being the double's.
        factor = 1 - (-(arb(0.8) - arb(0.5))).exp()
        assert (raw / effective - factor).contains(0)
