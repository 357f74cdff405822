"""What is said before an exhaustive measurement that takes long."""

from __future__ import annotations

from precision_lab.functions import activation, get_function
from precision_lab.math import sin
from precision_lab.measuring.foretold import slow_inputs
from precision_lab.oracle.formula_tables import hopeless


@activation
def wave(x):  # type: ignore[no-untyped-def]
    return x + sin(x) ** 2


def test_the_count_and_the_time_are_said_beforehand() -> None:
    e = wave.bound_expression("grad_x", {})
    total = sum(hopeless(e, sign) for sign in (-1, 1))
    (sentence,) = slow_inputs(wave, ("grad_x",), {}, threads=2)
    assert sentence.startswith(f"wave.grad_x: {total:,} of the 2^32 inputs have no polynomial")
    assert total > 2**30 and " min on this machine" in sentence


def test_nothing_is_said_of_what_takes_seconds() -> None:
    silu, hardswish = get_function("silu"), get_function("hardswish")
    assert list(slow_inputs(silu, silu.outputs, {})) == []
    assert list(slow_inputs(hardswish, hardswish.outputs, {})) == []
