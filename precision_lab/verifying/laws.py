"""Laws that a kernel keeps at drawn inputs, parameters and shapes, shrunk to the simplest that breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from precision_lab.exceptions import door, unknown_name
from precision_lab.formats import FloatFormat, kernel_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.inputs import strategies
from precision_lab.inputs.strategies import (
    COMMON_SETTINGS,
    Phase,
    SearchStrategy,
    given,
    settings,
)
from precision_lab.measuring.measure import measure_all
from precision_lab.oracle import reference
from precision_lab.results import Finding, Measurement
from precision_lab.running.case import Case, case_of
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge


@dataclass(frozen=True)
class Broken:
    """A law that a kernel breaks, at the simplest parameters that Hypothesis found."""

    law: str
    params: dict[str, float]
    message: str
    fault: Finding | None = None


Law = Callable[[Case, Sequence[Measurement], Bound], str | Finding | None]


def _first(faults: Iterator[Finding]) -> Finding | None:
    return next(faults, None)


def accuracy(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """Every output, autograd's gradients among them, is within its bound of the exact value."""
    kinds = ("inaccurate", "flushes_subnormals", "undecided")
    return _first(f for m in measured for f in judge(m, bound) if f.code in kinds)


def signs(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """No result, and above all no gradient, has the wrong sign."""
    return _first(f for m in measured for f in judge(m, bound) if f.code == "wrong_sign")


def special_values(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """±0, ±inf and NaN give what the limits say, and no finite input an infinity or NaN of its own."""
    return _first(f for m in measured for f in judge(m, bound) if f.code == "nonfinite")


def continuity(case: Case, measured: Sequence[Measurement], bound: Bound) -> str | None:
    """What is continuous at 0 has no jump there."""
    for m in measured:
        if (
            m.failure is None
            and m.output in case.function.continuous
            and not m.jump_at_zero <= 4 * _ulp_at_zero(case, m)
        ):
            return f"{m.output} jumps by {m.jump_at_zero:.4g} across 0"
    return None


def _ulp_at_zero(case: Case, m: Measurement) -> float:
    """An ulp of the exact value at 0; the smallest number where that is 0."""
    exact = reference(case.function, m.output, m.params, np.zeros(1), case.output_format(m.output))
    return float(exact.ulp[0])


def monotony(case: Case, measured: Sequence[Measurement], bound: Bound) -> str | None:
    """Between neighbours, results move as the exact values do, where those move by more than rounding."""
    for m in measured:
        if m.failure is None and bound.max_ulp <= 1 and m.monotonicity_violations:
            return f"{m.output} moves against the exact values {m.monotonicity_violations} times"
    return None


def runs(case: Case, measured: Sequence[Measurement], bound: Bound) -> str | None:
    """It gives every output for every legal parameter."""
    for m in measured:
        if m.failure is not None and m.failure.kind != "not_finite_parameters":
            return f"{m.output}: {m.failure.kind}: {m.failure.message}"
    return None


LAWS: dict[str, Law] = {
    "runs": runs,
    "accuracy": accuracy,
    "signs": signs,
    "special_values": special_values,
    "continuity": continuity,
    "monotony": monotony,
}


@door
@compiler_settings_kept()
def check_laws(
    kernel: Any,
    function: str | Activation,
    *,
    fmt: str | FloatFormat = "bf16",
    max_ulp: float = 1.0,
    laws: Sequence[str] = tuple(LAWS),
    max_examples: int = 25,
) -> list[Broken]:
    """The laws a kernel breaks for parameters that Hypothesis chooses: small, large, and about the roots.

    Each draw of parameters is measured on every input of an 8- or 16-bit format. Parameters that
    the kernel does not take stay as they are; a failure shrinks to the simplest parameters.

    Raises:
        ValueError: an unknown law, function or format; max_ulp below 0.5.
    """
    for law in laws:
        if law not in LAWS:
            raise unknown_name("law", law, LAWS)
    definition, source, bound = get_function(function), kernel_format(fmt), Bound(max_ulp)
    implementation = resolve(kernel, definition, source)
    given_ones = implementation.parameters
    fixed = definition.check_params()

    def taken(params: Mapping[str, float]) -> dict[str, float]:
        return {k: v if given_ones is None or k in given_ones else fixed[k] for k, v in params.items()}

    drawn = strategies.parameters(definition, source).map(taken)
    inputs = "exhaustive" if source.bits <= 16 else "stratified:4"
    case = case_of(implementation, source, inputs=inputs)
    memory: dict[tuple[float, ...], list[Measurement]] = {}  # every law is tried at the same parameters

    def measured(params: Mapping[str, float]) -> list[Measurement]:
        key = tuple(params.values())
        if key not in memory:
            memory[key] = measure_all(case.given(params))
        return memory[key]

    broken = (_broken(case, name, measured, bound, drawn, max_examples) for name in laws)
    return [found for found in broken if found is not None]


def _broken(
    case: Case,
    name: str,
    measured: Callable[[Mapping[str, float]], list[Measurement]],
    bound: Bound,
    drawn: SearchStrategy[dict[str, float]],
    max_examples: int,
) -> Broken | None:
    last: list[tuple[dict[str, float], str | Finding]] = []

    @settings(max_examples=max_examples, phases=[Phase.generate, Phase.shrink], **COMMON_SETTINGS)
    @given(drawn)
    def holds(params: dict[str, float]) -> None:
        found = LAWS[name](case, measured(params), bound)
        if found is not None:
            last.append((params, found))
            raise _Broken

    try:
        holds()
    except _Broken:
        params, found = last[-1]  # Hypothesis ends by running the simplest once more
        shown = ", ".join(f"{k}={v:g}" for k, v in params.items()) or "no parameters"
        text = f"{found.output}: {found.message}" if isinstance(found, Finding) else found
        fault = found if isinstance(found, Finding) else None
        return Broken(name, params, f"{name} with {shown}: {text}", fault)
    return None


class _Broken(AssertionError):
    """A law does not hold; Hypothesis shrinks to the simplest parameters for which it does not."""
