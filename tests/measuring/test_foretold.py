"""What is said before an exhaustive measurement that takes long."""

from __future__ import annotations

from precision_lab.functions import activation, get_function
from precision_lab.math import log1p, sin, where
from precision_lab.measuring.foretold import slow_inputs
from precision_lab.oracle.formula_tables import tables, without_piece


@activation
def wave(x):  # type: ignore[no-untyped-def]
    return x + sin(x) ** 2


def test_the_count_and_the_time_are_said_beforehand() -> None:
    total = sum(count for table in tables(wave, "grad_x", {}) for _, count in without_piece(table))
    (sentence,) = slow_inputs(wave, ("grad_x",), {}, threads=2)
    assert sentence.startswith(f"wave.grad_x: {total:,} of the 2^32 inputs have no polynomial")
    assert total > 2**30 and " min on this machine" in sentence


@activation
def jumping(x):  # type: ignore[no-untyped-def]
    return where(sin(x) > 0, x, 0)


@activation
def logarithm(x):  # type: ignore[no-untyped-def]
    return x * log1p(x)


def test_where_conditions_go_on_changing_is_foretold() -> None:
    (sentence,) = slow_inputs(jumping, ("forward",), {})
    count = int(sentence.split()[1].replace(",", ""))
    assert 2**31 - 2**28 < count < 2**31  # above some 2^10 there is an edge in every piece


def test_what_has_no_value_takes_no_time() -> None:
    """log(1 + x) has none for x ≤ −1; what is left is next to −1."""
    rsqrt = get_function("rsqrt")
    assert list(slow_inputs(rsqrt, rsqrt.outputs, {})) == []
    said = list(slow_inputs(logarithm, ("forward", "grad_x"), {}))
    assert [int(line.split()[1].replace(",", "")) <= 2**24 for line in said] == [True] * len(said)


def test_nothing_is_said_of_what_takes_seconds() -> None:
    silu, hardswish = get_function("silu"), get_function("hardswish")
    assert list(slow_inputs(silu, silu.outputs, {})) == []
    assert list(slow_inputs(hardswish, hardswish.outputs, {})) == []
