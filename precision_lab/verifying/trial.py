"""One kernel on trial: what is to be measured and examined, as a stream of events.

The same stream is read in this process or, from a child process, by `isolation`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from precision_lab.exceptions import EnvironmentAltersResultsError, KernelError, UsageError
from precision_lab.implementations.contract import CallContract
from precision_lab.results import Examination, Failure, Fault, Measurement, NotExamined
from precision_lab.running.accepted_calls import REFUSALS, undeclared_contract
from precision_lab.verifying.plan import (
    LAWS,
    PLAIN_CALL,
    Begin,
    Bounds,
    Event,
    Examined,
    Measured,
    Plan,
    Planned,
    Report,
)

if TYPE_CHECKING:
    from precision_lab.implementations import Implementation
    from precision_lab.verifying.properties.subject import Subject

_INACCURATE = ("inaccurate", "flushes_subnormals", "undecided")


Announce = Callable[[str], None]  # what the kernel is called with, before it is


def load(
    target: Any, plan: Plan, *, framework: str | None, compiled: bool, device: str
) -> tuple[Implementation, tuple[Fault, ...]]:
    """The implementation that a TARGET or an object is, and what loading it did to the process.

    Raises:
        ValueError: it is of no use, in the words of `target.find`.
        EnvironmentAltersResultsError: subnormals are flushed before the kernel was loaded.
    """
    from precision_lab.implementations import as_implementation
    from precision_lab.implementations.adapters.target import find, target_of
    from precision_lab.running.devices import on_device
    from precision_lab.running.selfcheck import require_ieee
    from precision_lab.running.switches import changed_switches, flushing_off, switches_kept

    require_ieee()
    changed_switches()
    with switches_kept():
        if isinstance(target, str):
            found = find(target, plan.function, plan.fmts, framework=framework, compiled=compiled)
        else:
            found = as_implementation(
                target, plan.function, plan.fmts, framework=framework, compiled=compiled,
                target=target_of(target),
            )  # fmt: skip
    faults = [
        Fault(
            "alters_environment", plan.function, found.name, fmt, "", "",
            f"on loading, {words} for the whole process; it is set back",
        )
        for words in changed_switches()
        for fmt in plan.fmts
    ]  # fmt: skip
    try:
        require_ieee()
    except EnvironmentAltersResultsError as error:
        said = flushing_off(error)
        require_ieee()
        faults += [
            Fault(
                "alters_environment", plan.function, found.name, fmt, "", "",
                f"loading it switched flushing on, as a library built with -ffast-math does: {said}",
            )
            for fmt in plan.fmts
        ]  # fmt: skip
    return on_device(replace(found, contract=plan.contract), device), tuple(faults)


def events(
    plan: Plan,
    implementation: Implementation,
    progress: Report | None = None,
    *,
    announce: Announce = lambda words: None,
    isolated: bool = False,
) -> Iterator[Event]:
    """Measures and examines; a fault of the kernel is an event, and the next stage goes on.

    Args:
        progress: called where a measurement takes long.
        announce: told what the kernel is called with, before it is.
        isolated: the process is the kernel's own, and may die of what it does.

    Raises:
        ValueError: an unknown output or format, or one that the kernel does not claim.
        EnvironmentAltersResultsError: subnormals were flushed before the kernel ran.
    """
    from precision_lab.functions import get_function
    from precision_lab.implementations import resolve
    from precision_lab.running.devices import on_device
    from precision_lab.running.selfcheck import require_ieee

    require_ieee()
    definition = get_function(plan.function)
    outputs = plan.outputs if plan.outputs is not None else implementation.measured_outputs()
    for output in outputs:
        definition.check_output(output)
    for fmt in plan.fmts:
        if fmt not in implementation.formats:
            known = ", ".join(implementation.formats)
            raise UsageError(f"{implementation.name} claims {known}, and fmt={fmt!r} was asked for")
    bounds = Bounds(plan)
    for fmt in plan.fmts:
        for output in outputs:
            bounds.bound(fmt, output)  # a file without it is found before anything is measured
    sets = _sets(plan, implementation)
    yield Planned(tuple(outputs), tuple(sets))
    trial = _Trial(plan, implementation, tuple(outputs), bounds, progress, announce, isolated)
    baseline = None
    if plan.against is not None:
        baseline = on_device(resolve(plan.against, definition.name, plan.fmts[0]), implementation.device)
    for fmt in plan.fmts:
        for position, (name, params) in enumerate(sets.items()):
            groups = [(o,) for o in outputs] if f"{fmt} {name}" in plan.one_by_one else [tuple(outputs)]
            for group in groups:
                stage = f"accuracy {fmt} {name} {' '.join(group)}"
                if stage not in plan.done:
                    yield from trial.measured(fmt, name, params, group, stage)
                    yield from _altered(plan, implementation, fmt, name)
            stage = f"against {fmt} {name}"
            if baseline is not None and stage not in plan.done:
                yield from _baseline(plan, baseline, fmt, name, params, outputs, stage)
            if position == 0:
                yield from trial.examined(fmt, name, params)
                yield from _lawful(plan, implementation, fmt, name, outputs, bounds)
                yield from _altered(plan, implementation, fmt, name)


def _sets(plan: Plan, implementation: Implementation) -> dict[str, Mapping[str, float]]:
    """The parameter sets that tell kernels apart: what a kernel is not given stays as in the first one."""
    first = next(iter(plan.parameter_sets.values()))
    given = implementation.parameters
    found: dict[str, Mapping[str, float]] = {}
    for name, values in plan.parameter_sets.items():
        if name in plan.added_sets and given is not None:
            values = {key: value if key in given else first[key] for key, value in values.items()}
        if name not in plan.added_sets or values not in found.values():
            found[name] = values
    return found


def _altered(plan: Plan, implementation: Implementation, fmt: str, params_name: str) -> Iterator[Event]:
    """A fault for each of torch's switches that the kernel has changed."""
    from precision_lab.running.switches import changed_switches

    for words in changed_switches():
        fault = Fault(
            "alters_environment", plan.function, implementation.name, fmt, "", params_name,
            f"{words} for the whole process; it is set back",
        )  # fmt: skip
        yield Examined((fault,), ())


class _Trial:
    """The stages of one kernel, and what earlier ones have found out about it."""

    def __init__(
        self, plan: Plan, implementation: Implementation, outputs: tuple[str, ...], bounds: Bounds,
        progress: Report | None, announce: Announce, isolated: bool,
    ) -> None:  # fmt: skip
        self.plan, self.implementation, self.outputs, self.bounds = plan, implementation, outputs, bounds
        self.progress, self.announce, self.isolated = progress, announce, isolated
        self.contracts: dict[str, CallContract] = {}  # found by trying, by format
        self.failed: set[str] = set()  # formats in which an output could not be measured
        self.accurate: dict[str, set[str]] = {}  # by format, outputs within their bounds

    def called(self, fmt: str) -> Implementation:
        """The implementation with the contract that was found for a format."""
        return replace(self.implementation, contract=self.contracts.get(fmt, self.implementation.contract))

    def measured(
        self, fmt: str, name: str, params: Mapping[str, float], outputs: tuple[str, ...], stage: str
    ) -> Iterator[Event]:
        from precision_lab.measuring.measure import blank_measurement

        plan = self.plan
        if name in plan.added_sets and (reason := self._unreachable(fmt, params)):
            gaps = tuple(NotExamined(output, fmt, name, reason, False) for output in outputs)
            yield Examined(not_examined=gaps)
            return
        blanks = tuple(
            blank_measurement(self.implementation, fmt, output, name, dict(params), plan.inputs or "", 0)
            for output in outputs
        )
        yield Begin(stage, blanks)
        found = self._run(fmt, name, params, outputs, blanks)
        refusal = next((m.failure for m in found if m.failure and m.failure.kind in REFUSALS), None)
        if refusal is not None:
            faults = self._sought(fmt, name, params, refusal.message, found[0].n_inputs)
            if faults:
                yield Examined(faults)
                found = self._run(fmt, name, params, outputs, blanks)
        for m in found:
            self._learn(m)
            yield Measured(m)

    def _unreachable(self, fmt: str, params: Mapping[str, float]) -> str:
        """Why a kernel cannot be given parameters that nobody asked for; "" where it can."""
        from precision_lab.running.runner import effective_parameters

        try:
            effective_parameters(self.implementation, params, fmt)
        except (KernelError, ValueError) as error:
            return f"it cannot be given these parameters: {error}"
        return ""

    def _run(
        self, fmt: str, name: str, params: Mapping[str, float], outputs: tuple[str, ...],
        blanks: tuple[Measurement, ...],
    ) -> list[Measurement]:  # fmt: skip
        from precision_lab.measuring.measure import measure_all
        from precision_lab.running.switches import flushing_off

        self.announce("every input of the measurement in one call")
        try:
            return measure_all(
                self.called(fmt), outputs, fmt, dict(params), params_name=name, inputs=self.plan.inputs,
                progress=self.progress, finite=self.plan.finite,
            )  # fmt: skip
        except EnvironmentAltersResultsError as error:
            failure = Failure("alters_environment", flushing_off(error))
            return [replace(blank, failure=failure) for blank in blanks]

    def _learn(self, m: Measurement) -> None:
        from precision_lab.verifying.judge import judge

        self.bounds.note(m)
        if m.failure is not None:
            self.failed.add(m.fmt)
        bound = self.bounds.working(m.fmt, m.output)
        clean = m.failure is None and not (m.nonfinite_mismatch or m.wrong_sign)  # nor any that is known
        if bound is not None and clean and not any(f.kind in _INACCURATE for f in judge(m, bound)):
            self.accurate.setdefault(f"{m.fmt} {m.params_name}", set()).add(m.output)

    def _sought(
        self, fmt: str, name: str, params: Mapping[str, float], why: str, n: int
    ) -> tuple[Fault, ...]:
        """The fault of a refusal that no contract declares, where other calls are accepted."""
        if fmt in self.contracts:
            return ()
        found = undeclared_contract(self.implementation, fmt, params, self.announce)
        if found is None:
            return ()
        self.contracts[fmt] = found
        kind = "refuses_shapes" if found.shapes else "refuses_lengths"
        message = (
            f"x of {n} elements in one dimension: {why}. {found.words()} are accepted, and what follows was "
            "examined with those"
        )
        about = (self.plan.function, self.implementation.name, fmt)
        return (Fault(kind, *about, "", name, message),)

    def examined(self, fmt: str, name: str, params: Mapping[str, float]) -> Iterator[Event]:
        from precision_lab.verifying.properties.registry import examine

        plan = self.plan
        stages = {f"property {fmt} {name} {prop}": prop for prop in plan.properties}
        plain = f"{PLAIN_CALL} {fmt} {name}"
        if not stages or plain in plan.done or all(stage in plan.done for stage in stages):
            return
        yield Begin(plain)
        subject: Subject | None = None
        why: KernelError | None = None
        try:
            subject = self._subject(fmt, name, params)
        except KernelError as error:
            why = error
            faults = self._sought(fmt, name, params, str(error), 4097) if error.kind in REFUSALS else ()
            if faults:
                yield Examined(faults)
                try:
                    subject = self._subject(fmt, name, params)
                except KernelError as again:
                    why = again
        if subject is None:
            assert why is not None
            yield from self._unexaminable(fmt, name, why)
            return
        for stage, prop in stages.items():
            if stage not in plan.done:
                yield Begin(stage)
                found = examine(subject, prop)
                state = "broken" if found.faults else "does not apply" if found.inapplicable else "holds"
                yield Examined(
                    tuple(self._replayed(f, prop) for f in found.faults), found.notes, found.not_examined,
                    Examination(prop, fmt, name, state, found.inapplicable),
                )  # fmt: skip

    def _subject(self, fmt: str, name: str, params: Mapping[str, float]) -> Subject:
        from precision_lab.verifying.properties import BUDGET
        from precision_lab.verifying.properties.subject import Subject, Terms

        given = {o: self.bounds.working(fmt, o) for o in self.outputs}
        held = {o: bound for o, bound in given.items() if bound is not None}
        terms = Terms(
            held, frozenset(self.accurate.get(f"{fmt} {name}", ())), self.plan.finite, self.isolated,
            BUDGET if self.plan.budget is None else self.plan.budget,
            self.plan.budget is not None or "sizes" in self.plan.asked, self.announce,
        )  # fmt: skip
        return Subject(self.called(fmt), fmt, params, tuple(held), name, terms)

    def _unexaminable(self, fmt: str, name: str, error: KernelError) -> Iterator[Event]:
        """What it means that a plain call fails: the measurement has said so, or it is a fault."""
        if fmt not in self.failed:
            about = (self.plan.function, self.implementation.name, fmt)
            yield Examined((Fault(error.kind, *about, "", name, f"in a plain call: {error}"),))
        for prop in self.plan.properties:
            reason = f"a plain call fails: {error}"
            yield Examined(examination=Examination(prop, fmt, name, "not examined", reason))

    def _replayed(self, fault: Fault, prop: str) -> Fault:
        """A fault with the command that examines its property again."""
        target = self.implementation.target
        if not target or fault.replay:
            return fault
        words = [
            f"precision-lab verify {shlex.quote(target)} --function {fault.function} --format {fault.fmt}",
            f"--properties {prop}", *self._options(fault),
        ]  # fmt: skip
        return replace(fault, replay=" ".join(words))

    def _options(self, fault: Fault) -> list[str]:
        plan, params = self.plan, self.plan.parameter_sets[fault.params_name]
        words = [f"--output {output}" for output in plan.outputs or ()]
        words += [f"--param {key}={value!r}" for key, value in params.items()]
        if plan.bound_file is not None:
            words.append(f"--bound {shlex.quote(plan.bound_file)}")
        elif plan.max_ulp not in (None, 1.0):
            words.append(f"--max-ulp {plan.max_ulp!r}")
        words += self.implementation.options()
        words += ["--finite"] if plan.finite else []
        if self.implementation.device != "cpu":
            words.append(f"--device {self.implementation.device}")
        return words


def _baseline(
    plan: Plan, baseline: Implementation, fmt: str, name: str, params: Mapping[str, float],
    outputs: tuple[str, ...], stage: str,
) -> Iterator[Event]:  # fmt: skip
    from precision_lab.measuring.measure import measure_all

    yield Begin(stage)
    given = [o for o in outputs if o in baseline.measured_outputs()]
    if fmt in baseline.formats and given:
        for m in measure_all(baseline, given, fmt, params, params_name=name, inputs=plan.inputs):
            yield Measured(m, baseline=True)


def _lawful(
    plan: Plan, implementation: Implementation, fmt: str, name: str, outputs: tuple[str, ...], bounds: Bounds
) -> Iterator[Event]:
    stage = f"{LAWS} {fmt} {name}"
    if not plan.laws or stage in plan.done:
        return
    from precision_lab.running.switches import flushing_off
    from precision_lab.verifying.laws import check_laws

    yield Begin(stage)
    # Other parameters have other errors: of a file's bounds, the widest counts.
    held = [bound for o in outputs if (bound := bounds.bound(fmt, o)) is not None]
    if not held:
        reason = "no bound is given that results at other parameters must keep"
        yield Examined(examination=Examination(LAWS, fmt, name, "not examined", reason))
        return
    limit = max(max(bound.max_ulp, *bound.regions.values(), 0.5) for bound in held)
    about = (plan.function, implementation.name, fmt, "", "")
    try:
        faults = tuple(
            Fault("breaks_law", *about, broken.message)
            if broken.fault is None
            else Fault(broken.fault.kind, *about, broken.message, replay=broken.fault.replay)
            for broken in check_laws(implementation, plan.function, fmt=fmt, max_ulp=limit)
        )
    except EnvironmentAltersResultsError as error:
        message = f"while the laws were checked: {flushing_off(error)}"
        faults = (Fault("alters_environment", *about, message),)
    yield Examined(faults, examination=Examination(LAWS, fmt, name, "broken" if faults else "holds"))
