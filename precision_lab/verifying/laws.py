"""Laws that a kernel keeps at drawn inputs, parameters and shapes, shrunk to the simplest that breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from precision_lab.devices import CPU, Device, get_device
from precision_lab.exceptions import door, unknown_name
from precision_lab.formats import FloatFormat, kernel_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.adapters.target import find, handed_over
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
from precision_lab.results.codes import OPEN
from precision_lab.running.case import Case, case_of
from precision_lab.running.own_process import on
from precision_lab.running.placement import on_device
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge

EXAMPLES = 25  # parameters that are drawn
SHRINKS = 48  # more of them that one law may measure to find simpler ones that break it


@dataclass(frozen=True)
class Broken:
    """A law that a kernel breaks, at the simplest parameters that Hypothesis found.

    Attributes:
        is_open: no parameters were found that break it, and at these nobody knows.
    """

    law: str
    params: dict[str, float]
    message: str
    fault: Finding | None = None

    @property
    def is_open(self) -> bool:
        return self.fault is not None and self.fault.code in OPEN

    def finding(self, case: Case) -> Finding:
        """As one of a verdict's."""
        if self.fault is None:
            return case.finding("breaks_law", self.message, params_name="")
        return replace(
            self.fault,
            message=self.message,
            implementation=case.implementation.name,
            output="",
            params_name="",
        )


Law = Callable[[Case, Sequence[Measurement], Bound], str | Finding | None]


def _first(faults: Iterable[Finding]) -> Finding | None:
    """The first that is known to be one; else the first of which nobody knows."""
    return min(faults, key=lambda fault: fault.code in OPEN, default=None)


def _judged(measured: Sequence[Measurement], bound: Bound, *codes: str) -> Finding | None:
    """The first of these, or of what nobody knows as it depends on the device."""
    wanted = (*codes, "depends_on_device")
    return _first(fault for m in measured for fault in judge(m, bound) if fault.code in wanted)


def accuracy(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """Every output, autograd's gradients among them, is within its bound of the exact value."""
    return _judged(measured, bound, "inaccurate", "flushes_subnormals", "undecided")


def signs(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """No result, and above all no gradient, has the wrong sign."""
    return _judged(measured, bound, "wrong_sign")


def special_values(case: Case, measured: Sequence[Measurement], bound: Bound) -> Finding | None:
    """±0, ±inf and NaN give what the limits say, and no finite input an infinity or NaN of its own."""
    return _judged(measured, bound, "nonfinite")


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


def runs(case: Case, measured: Sequence[Measurement], bound: Bound) -> str | Finding | None:
    """It gives every output for every legal parameter."""
    failures = [(m, f) for m in measured if (f := m.failure) and f.kind != "not_finite_parameters"]
    for m, failure in failures:
        if failure.kind not in OPEN:
            return f"{m.output}: {failure.kind}: {failure.message}"
    return _first(found for m, _ in failures for found in judge(m, bound))


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
    max_examples: int = EXAMPLES,
    outputs: Sequence[str] | None = None,
    device: str | Device = CPU,
) -> list[Broken]:
    """The laws a kernel breaks for parameters that Hypothesis chooses: small, large, and about the roots.

    Each draw of parameters is measured on every input of an 8- or 16-bit format. Parameters that
    the kernel does not take stay as they are; a failure shrinks to the simplest parameters.

    Args:
        kernel: as `measure`.
        outputs: of which laws are asked; by default all that the kernel gives.
        device: as `measure`.

    Raises:
        ValueError: an unknown law, function, format, output or device; max_ulp below 0.5.
    """
    for law in laws:
        if law not in LAWS:
            raise unknown_name("law", law, LAWS)
    definition, source, place = get_function(function), kernel_format(fmt), get_device(device)
    bound, asked = Bound(max_ulp), None if outputs is None else tuple(outputs)
    if place.own_process:
        kernel = handed_over(kernel, place.name)
    return on(place, _checked, kernel, definition, source, (bound, tuple(laws), max_examples, asked, place))


def _checked(
    kernel: Any, definition: Activation, source: FloatFormat,
    asked: tuple[Bound, tuple[str, ...], int, tuple[str, ...] | None, Device],
) -> list[Broken]:  # fmt: skip
    bound, laws, max_examples, outputs, place = asked
    if isinstance(kernel, str):
        kernel = find(kernel, definition, (source,))
    implementation = on_device(resolve(kernel, definition, source), place)
    case = case_of(implementation, source, outputs=outputs)
    return broken_laws(case, bound, laws, max_examples)


def broken_laws(
    case: Case,
    bound: Bound,
    laws: Sequence[str] = tuple(LAWS),
    max_examples: int = EXAMPLES,
    announce: Callable[[str], None] = lambda words: None,
) -> list[Broken]:
    """`check_laws` of a case, whatever its own parameters and inputs are.

    All laws together measure no more than `max_examples` parameters and `SHRINKS` of each law.

    Args:
        announce: told which parameters are measured, before they are.
    """
    given_ones, fixed = case.implementation.parameters, case.function.check_params()

    def taken(params: Mapping[str, float]) -> dict[str, float]:
        """In the function's order, whatever order they are drawn in."""
        return {k: params[k] if given_ones is None or k in given_ones else v for k, v in fixed.items()}

    drawn = strategies.parameters(case.function, case.fmt).map(taken)
    inputs = "exhaustive" if case.fmt.bits <= 16 else "stratified:4"
    tried = _Tried(replace(case, inputs=inputs), announce)
    broken = (_broken(tried, name, bound, drawn, max_examples) for name in laws)
    return [found for found in broken if found is not None]


class _Tried:
    """Results by parameters: every law is tried at the same ones, which are measured once."""

    def __init__(self, case: Case, announce: Callable[[str], None]) -> None:
        self.case, self._announce = case, announce
        self._found: dict[tuple[float, ...], list[Measurement]] = {}

    def knows(self, params: Mapping[str, float]) -> bool:
        return tuple(params.values()) in self._found

    def at(self, params: Mapping[str, float]) -> list[Measurement]:
        """
        Args:
            params: always in one order.
        """
        key = tuple(params.values())
        if key not in self._found:
            self._announce(f"the inputs of a law, {_shown(params)}")
            self._found[key] = measure_all(self.case.given(params))
        return self._found[key]


def _broken(
    tried: _Tried, name: str, bound: Bound, drawn: SearchStrategy[dict[str, float]], max_examples: int
) -> Broken | None:
    last: list[tuple[dict[str, float], str | Finding]] = []
    unknown: list[tuple[dict[str, float], Finding]] = []
    left = SHRINKS

    @settings(max_examples=max_examples, phases=[Phase.generate, Phase.shrink], **COMMON_SETTINGS)
    @given(drawn)
    def holds(params: dict[str, float]) -> None:
        nonlocal left
        if last and not tried.knows(params):
            if left == 0:
                return  # as if it held there, so that shrinking ends
            left -= 1
        found = LAWS[name](tried.case, tried.at(params), bound)
        if isinstance(found, Finding) and found.code in OPEN:
            unknown.append((params, found))  # others may break it
        elif found is not None:
            last.append((params, found))
            raise _Broken

    try:
        holds()
    except _Broken:
        params, found = last[-1]  # Hypothesis ends by running the simplest once more
        return _told(name, params, found)
    return _told(name, *unknown[0]) if unknown else None


def _told(name: str, params: dict[str, float], found: str | Finding) -> Broken:
    text = f"{found.output}: {found.message}" if isinstance(found, Finding) else found
    fault = found if isinstance(found, Finding) else None
    return Broken(name, params, f"{name} with {_shown(params)}: {text}", fault)


def _shown(params: Mapping[str, float]) -> str:
    return ", ".join(f"{k}={v:g}" for k, v in params.items()) or "no parameters"


class _Broken(AssertionError):
    """A law does not hold; Hypothesis shrinks to the simplest parameters for which it does not."""
