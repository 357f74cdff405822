"""Runs a stranger's kernel in a process of its own: a crash, a hang or a kill becomes a named fault.

The child runs `trial.events` and writes each event as one line of JSON to a pipe. Should it die or
fall silent, the stage it was in has failed, and a new child goes on with the next.

This keeps accidents apart; it is no security boundary. The kernel runs in the child with all of the
user's rights, and one that means to can read the key of its job and forge a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from precision_lab.devices import CPU, Device
from precision_lab.exceptions import EnvironmentAltersResultsError, InternalError, KernelError, UsageError
from precision_lab.implementations.adapters.target import kernel_of
from precision_lab.implementations.inductor import Compiled
from precision_lab.results import Examination, Failure, Finding, Measurement
from precision_lab.system.progress import Progress
from precision_lab.verifying.child import Child, Disturbed, death
from precision_lab.verifying.plan import LAWS, PLAIN_CALL, Begin, Event, Examined, Measured, Plan
from precision_lab.verifying.wire import decode, packed

START_LIMIT = 300.0  # seconds for importing torch and the kernel's own module
HANGS = 2  # stages in which a kernel may hang before it is left alone
NARROW = (256, 1)  # elements per call when looking for the inputs that kill


@dataclass(frozen=True)
class _Job:
    """What is to be loaded, and where it runs."""

    target: str
    framework: str | None
    compiled: Compiled
    device: Device

    def start(self, plan: Plan, **more: Any) -> Child:
        what = {"target": self.target, "framework": self.framework, "compiled": self.compiled}
        job = {**what, "device": self.device.name, "plan": packed(plan), **more}
        return Child(job, self.device)


@dataclass
class _Course:
    """How far one child has come.

    Attributes:
        stage, doing: what it is in the middle of, and which call it has announced there.
        finished: stages that need no other child.
        failure: why it ended before its time; None after its last word.
    """

    stage: Begin | None = None
    doing: str = ""
    finished: list[str] = field(default_factory=list)
    failure: Failure | None = None

    def events(
        self, child: Child, target: str, time_limit: float, progress: Progress | None
    ) -> Iterator[Event]:
        """What the child says, until it ends one way or another."""
        try:
            while (line := child.line(time_limit if self.stage else START_LIMIT)) is not None:
                if "end" in line:
                    return
                if "error" in line:
                    raise _told(line)
                if "doing" in line:
                    self.doing = line["doing"]
                elif "done" in line:
                    if progress is not None:
                        progress(line["stage"], line["done"], line["total"])
                else:
                    event = decode(line)
                    if isinstance(event, Begin):
                        self._begin(event)
                    yield event
            self.failure = death(child.stop(), child.last_words(), target)
        except Disturbed as error:
            child.kill()
            self.failure = Failure("disturbs_report", str(error))
        except TimeoutError:
            child.kill()
            words = f"no answer within {time_limit:g} s {child.last_words()}"
            self.failure = Failure("hung", words.rstrip())

    def _begin(self, event: Begin) -> None:
        if self.stage is not None and not self.stage.stage.startswith(PLAIN_CALL):
            self.finished.append(self.stage.stage)
        self.stage, self.doing = event, ""


def _told(line: Mapping[str, Any]) -> Exception:
    """The error that the child's own lab has raised."""
    kind, message = line["kind"], line["error"]
    if kind == "lab":
        return InternalError(message, line["trace"])
    if kind.startswith("kernel "):
        return KernelError(kind.removeprefix("kernel "), message)
    return EnvironmentAltersResultsError(message) if kind == "environment" else UsageError(message)


def isolated_events(
    plan: Plan,
    target: str,
    *,
    framework: str | None,
    compiled: Compiled,
    time_limit: float,
    progress: Progress | None = None,
    device: Device = CPU,
) -> Iterator[Event]:
    """`trial.events` of a TARGET, out of a child process that may die.

    Args:
        time_limit: seconds in which an event must come; loading the kernel has longer.

    Raises:
        ValueError: the TARGET is of no use, in the words of `target.find`; or loading it kills or
            hangs the process; time_limit is not positive.
        EnvironmentAltersResultsError: as `trial.events`.
    """
    if not time_limit > 0:
        raise UsageError(f"time_limit={time_limit!r}: must be a positive number of seconds")
    job = _Job(target, framework, compiled, device)
    hangs = 0
    narrowed = False
    together: tuple[Measurement, ...] = ()  # of a call that hung, what is still to be told apart
    while True:
        course = _Course()
        with job.start(plan) as child:
            yield from course.events(child, target, time_limit, progress)
        stage, failure = course.stage, course.failure
        if failure is None:
            return
        if stage is None:
            raise UsageError(f"TARGET {target!r} cannot be loaded: {failure.kind}: {failure.message}")
        plan = replace(plan, done=(*plan.done, *course.finished))
        hung = failure.kind == "hung"
        if len(stage.blanks) > 1 and not (hung and hangs):
            _, fmt, name, _ = stage.stage.split(" ", 3)
            plan = replace(plan, one_by_one=(*plan.one_by_one, f"{fmt} {name}"))
            together = stage.blanks if hung else ()
            continue
        hangs += hung
        plan = replace(plan, done=(*plan.done, stage.stage))
        if course.doing:
            failure = replace(failure, message=f"{failure.message}, called with {course.doing}")
        if not stage.blanks:
            yield _property_died(plan, target, stage.stage, failure)
        elif len(stage.blanks) > 1 or failure.kind == "disturbs_report":
            yield from (Measured(replace(blank, failure=failure)) for blank in stage.blanks)
        else:
            # A GPU's process is no fork: to look for the inputs takes ten seconds each time.
            if not (narrowed and device.is_accelerator):
                where = _narrowed(job, plan, stage.blanks[0], min(time_limit, 30.0))
                failure = Failure(failure.kind, f"{failure.message}; {where}")
                narrowed = True
            for blank in _taken_along(stage.blanks, together if hung else ()):
                yield Measured(replace(blank, failure=failure))
                one = f"accuracy {blank.fmt} {blank.params_name} {blank.output}"
                plan = replace(plan, done=(*plan.done, one))
        if hangs == HANGS:
            yield Examined(notes=(f"it has hung in {HANGS} stages, and what is left was not run",))
            return


def _taken_along(
    blanks: tuple[Measurement, ...], together: tuple[Measurement, ...]
) -> tuple[Measurement, ...]:
    """What one output's failure leaves unmeasured.

    A forward that hangs takes every gradient with it, and so does a backward, which gives them all.
    """
    names = [(b.fmt, b.params_name, b.output) for b in together]
    alone = next((b.fmt, b.params_name, b.output) for b in blanks)
    return together[names.index(alone) :] if alone in names else blanks


def _property_died(plan: Plan, target: str, stage: str, failure: Failure) -> Examined:
    what, fmt, name, *prop = stage.replace(PLAIN_CALL, "plain").split(" ")
    examined = LAWS if what == LAWS else prop[0] if prop else ""
    where = {
        "against": f"while {plan.against} was measured",
        LAWS: "while the laws were checked",
        "property": f"while the property {examined} was examined",
    }.get(what, "in a plain call on a few thousand inputs")
    fault = Finding(
        code=failure.kind, function=plan.function.name, implementation=kernel_of(target), fmt=fmt,
        params_name=name, message=f"{failure.message}, {where}",
    )  # fmt: skip
    examination = Examination(examined, fmt, name, "broken") if examined else None
    return Examined((fault,), examination=examination)


def _narrowed(job: _Job, plan: Plan, blank: Measurement, time_limit: float) -> str:
    """The inputs that lead to a death: looked for in calls of 256 elements, then of one."""
    window: tuple[int, int] | None = None
    words = ""
    for size in NARROW:
        where = [blank.fmt, blank.params_name, blank.output]
        reached: tuple[int, int, str] | None = None
        died = True
        with job.start(plan, size=size, window=window, narrow=where) as child:
            try:
                while (line := child.line(time_limit if reached else START_LIMIT)) is not None:
                    if "end" in line:
                        died = False
                        break
                    reached = (line["first"], line["end_before"], line["words"])
                child.stop()
            except (TimeoutError, Disturbed):
                child.kill()
        if reached is None:
            return "the inputs that led to it could not be found"
        if not died:
            if window is None:
                return f"with all inputs in one call, not in calls of {size} elements"
            return f"in a call of the {window[1] - window[0]} inputs {words}, not for each of them alone"
        window, words = (reached[0], reached[1]), reached[2]
    return f"the input that leads to it: {words}"
