"""The oracle's error bounds, proven by Gappa from scripts that its own code writes; `tox -e proof`.

`docs/error-analysis.md` says which bounds these are and what stays derived by hand. The controls show that
the scripts can fail. Runs marked slow take some twenty seconds a script.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ball_claims
import double_double_claims as dd
import exponential_claims as exponential
import horner_claims as horner
import pytest
import real_facts
from gappa_run import MISSING, ask, installed
from proof_trace import dyadic, literal

from precision_lab.numeric.error_free import fast_two_sum, two_product
from precision_lab.oracle import double_double
from precision_lab.oracle import exponential as exponential_code
from precision_lab.oracle.piecewise_tables import table

if os.environ.get("PRECISION_LAB_REQUIRE_GAPPA") == "1" and not installed():
    raise RuntimeError(MISSING)
gappa = pytest.mark.skipif(not installed(), reason=MISSING)


def assert_proved(script: str) -> None:
    answer = ask(script)
    assert answer.proved, f"{answer.said}\n{script}"


# What the scripts suppose.


@pytest.mark.parametrize("fact", real_facts.NUMBERS, ids=lambda fact: fact.__name__)
def test_a_supposed_number_is_as_the_script_says(fact: Callable[[], tuple[Any, Any]]) -> None:
    with real_facts.Precision():
        small, large = fact()
        assert small <= large


@pytest.mark.parametrize("fact", real_facts.ON_UNIT, ids=lambda fact: fact.__name__)
def test_what_is_supposed_on_the_unit_interval_holds_at_points(
    fact: Callable[[Any], tuple[Any, Any]],
) -> None:
    with real_facts.Precision():
        for x in real_facts.unit_points():
            small, large = fact(x)
            assert small <= large, x


def test_a_wrong_supposition_is_seen() -> None:
    with real_facts.Precision():
        small, large = real_facts.ln2_is_split(exponential_code.LN2_LOW * (1 + 2.0**-50))
        assert small > large
        small, large = real_facts.far_series_leaves_out(len(exponential_code._C) - 1)
        assert small > large
        small, large = real_facts.near_series_leaves_out(
            next(real_facts.unit_points()), len(exponential_code._D) - 1
        )
        assert small > large


# The first tier's exponentials.


@gappa
@pytest.mark.parametrize("claim", exponential.CLAIMS)
def test_the_exponentials_keep_their_bounds(claim: str) -> None:
    assert_proved(exponential.CLAIMS[claim]())


@gappa
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(exponential.exp_value(exponential_code.EXP_RELATIVE / 2), id="half of EXP_RELATIVE"),
        pytest.param(exponential.q_value(exponential_code.Q_RELATIVE / 2), id="half of Q_RELATIVE"),
        pytest.param(
            exponential.expm1_value(exponential_code.EXPM1_RELATIVE / 2), id="half of EXPM1_RELATIVE"
        ),
        pytest.param(exponential.reduction(exponential_code.REDUCED - 2.0**-9), id="a smaller REDUCED"),
        pytest.param(
            exponential.exp_value(coefficients=[0.5 + 2.0**-48, *exponential_code._C[1:]]),
            id="a coefficient of exp",
        ),
        pytest.param(
            exponential.q_value(coefficients=[*exponential_code._D[:5], 0.0, *exponential_code._D[6:]]),
            id="a coefficient of q",
        ),
    ],
)
def test_what_the_exponentials_do_not_keep_is_not_proven(script: str) -> None:
    assert not ask(script).proved


# Double-double steps.

STEPS = {
    "times_float": (dd.times_float, dd.FLOAT_CASES, dd.TIMES_FLOAT),
    "plus": (dd.plus, dd.PLUS_CASES, dd.PLUS),
    "times": (dd.times, dd.TIMES_CASES, dd.TIMES),
}


@gappa
@pytest.mark.parametrize("step", STEPS)
def test_a_double_double_step_keeps_its_bound(step: str) -> None:
    script, cases, _ = STEPS[step]
    for case in cases:
        assert_proved(script(case))


@gappa
@pytest.mark.parametrize("step", STEPS)
def test_half_the_bound_of_a_double_double_step_is_not_proven(step: str) -> None:
    script, cases, bound = STEPS[step]
    assert not all(ask(script(case, bound / 2)).proved for case in cases)


@gappa
def test_a_product_whose_low_part_rounds_twice_does_not_keep_the_bound() -> None:
    def unfused(high: Any, low: Any, b: Any) -> Any:
        p, e = two_product(high, b)
        return fast_two_sum(p, low * b + e)

    assert not ask(dd.times_float("below", function=unfused)).proved


@gappa
@pytest.mark.parametrize("claim", ball_claims.CLAIMS)
def test_the_radius_of_an_enclosure_holds_what_is_dropped(claim: str) -> None:
    assert_proved(ball_claims.CLAIMS[claim]())


@gappa
def test_a_radius_with_less_slack_is_not_proven() -> None:
    less = 1 + (double_double.SLACK - 1) / 4
    assert not ask(ball_claims.weights("ball_add", 1.0)).proved
    assert not ask(ball_claims.weights("ball_times", less)).proved
    assert not ask(ball_claims.small_product_loses_half_a_step(ball_claims.HALF_STEP / 2)).proved


# Horner's rule.

ROWS = [("sigmoid", 1), ("tanh'", -1), ("softplus", 1), ("gelu", -1), ("mish'", 1), ("atlu", 1)]


@gappa
@pytest.mark.parametrize("profile", horner.PROFILES)
def test_horners_rule_keeps_its_bound_for_coefficients_up_to_a_profile(profile: str) -> None:
    assert_proved(horner.single([horner.PROFILES[profile](k) for k in range(12)]))


@gappa
@pytest.mark.parametrize("name,side", ROWS)
def test_horners_rule_keeps_its_bound_for_coefficients_up_to_those_of_a_table(name: str, side: int) -> None:
    rows = table(name, side, False).coefficients
    for row in rows[:: max(1, len(rows) // 6)]:
        assert_proved(horner.single([abs(float(b)) for b in row]))


@gappa
def test_a_quarter_of_the_bound_of_horners_rule_is_not_proven() -> None:
    sizes = [1.0] * 12
    bound = horner.compiler.horner_bound(sizes)
    assert not ask(horner.single(sizes, bound / 4)).proved


@gappa
@pytest.mark.slow
@pytest.mark.parametrize("profile", ["level", "falling"])
def test_horners_rule_in_double_double_keeps_its_bound(profile: str) -> None:
    sizes = [horner.PROFILES[profile](k) for k in range(22)]
    assert_proved(horner.double(sizes))
    assert not ask(horner.double(sizes, horner.compiler._horner_dd(sizes) / 4)).proved


@gappa
@pytest.mark.slow
def test_horners_rule_in_double_double_keeps_its_bound_for_a_row_of_a_table() -> None:
    rows = table("sigmoid", 1, True).coefficients
    assert_proved(horner.double([abs(float(b)) for b in rows[len(rows) // 2]]))


# Gappa itself.


@gappa
def test_a_hint_that_is_no_identity_proves_nothing() -> None:
    script = "{ x in [1,2] -> x * x in [1,5] }\nx * x -> x + 1;\n"
    assert not ask(script).proved and "not trivially equal" in ask(script).said
    assert ask(script.partition("\n")[0]).proved


@gappa
def test_a_script_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="could not read"):
        ask("{ x in [1,")


def test_numbers_are_written_exactly() -> None:
    assert literal(0.1) == "3602879701896397b-55" and literal(Fraction(-1, 3)) == "(-1 / 3)"
    third = Fraction(1, 3)
    below, above = dyadic(third, up=False), dyadic(third, up=True)
    assert below < third < above and above - below < third * Fraction(2) ** -78
