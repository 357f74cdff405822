"""A kernel in this process: its events, and what is left unmeasured where it destroys the GPU's context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from precision_lab.exceptions import DeviceLostError
from precision_lab.functions import Asked
from precision_lab.implementations import Implementation
from precision_lab.results import Failure, Finding
from precision_lab.running.case import Case
from precision_lab.verifying.plan import Begin, Event, Examined, Measured, Plan


def surviving(plan: Plan, implementation: Implementation, stream: Iterable[Event]) -> Iterator[Event]:
    """The events of a kernel in this process, until it destroys the GPU's context; then what that leaves
    unmeasured, by name.
    """
    seen: set[tuple[str, str, str]] = set()
    stage = Begin("")
    try:
        for event in stream:
            if isinstance(event, Measured) and not event.baseline:
                m = event.measurement
                seen.add((m.fmt, m.params_name, m.output))
            elif isinstance(event, Begin):
                stage = event
            yield event
    except DeviceLostError as error:
        crash = Failure("crashed", str(error))
        if not stage.blanks:
            message = f"{crash.message}, in the stage {stage.stage!r}"
            fault = Finding(
                code="crashed", function=plan.function.name, implementation=implementation.name, fmt="",
                params_name="", message=message,
            )  # fmt: skip
            yield Examined((fault,))
        died = {(m.fmt, m.params_name, m.output) for m in stage.blanks}
        outputs = plan.outputs if plan.outputs is not None else implementation.measured_outputs()
        for fmt in plan.fmts:
            for name, params in plan.parameter_sets.items():
                case = Case(
                    implementation, fmt, Asked(params), tuple(outputs), plan.inputs, plan.finite, name
                )
                for output in outputs:
                    key = (fmt.name, name, output)
                    if key not in seen:
                        failure = crash if key in died else Failure("device_lost", crash.message)
                        yield Measured(case.unmeasured(output, failure))
        yield Examined(notes=("what follows the crash was not examined: the GPU's context is lost",))
