"""One kernel on trial: what is to be measured and examined, as a stream of events.

The same stream is read in this process or, from a child process, by `isolation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from precision_lab.exceptions import EnvironmentAltersResultsError, KernelError, UsageError
from precision_lab.formats import FloatFormat
from precision_lab.functions import Asked
from precision_lab.implementations import Implementation
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.switches import changed_switches, flushing_off
from precision_lab.measuring.measure import measure_all
from precision_lab.results import Examination, Failure, Finding, Measurement, NotExamined, strict_json
from precision_lab.running.accepted_calls import REFUSALS, undeclared_contract
from precision_lab.running.case import Case
from precision_lab.running.runner import run
from precision_lab.running.selfcheck import require_ieee
from precision_lab.system.progress import Progress
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge
from precision_lab.verifying.loading import Loaded
from precision_lab.verifying.plan import (
    CONFIGURATIONS,
    LAWS,
    PLAIN_CALL,
    Begin,
    Bounds,
    Event,
    Examined,
    Measured,
    Plan,
    Planned,
)
from precision_lab.verifying.properties import BUDGET
from precision_lab.verifying.properties.registry import examine
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.terms import Terms
from precision_lab.verifying.replay import replayed

_INACCURATE = ("inaccurate", "flushes_subnormals", "undecided")


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Outputs that two calls with the same inputs gave differently, or of which one gave none."""
    return tuple(
        output for output, values in one.items()
        if isinstance(values, Failure) or isinstance(other[output], Failure)
        or not np.array_equal(values, other[output], equal_nan=True)
        or (np.signbit(values) != np.signbit(other[output])).any()
    )  # fmt: skip


def _figures(m: Measurement) -> str:
    """All that was measured, but for how long it took; as text, in which NaN equals itself."""
    return strict_json(replace(m, time_ns_per_element=None).to_json())


Announce = Callable[[str], None]  # what the kernel is called with, before it is


def events(
    plan: Plan,
    loaded: Loaded,
    progress: Progress | None = None,
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
    require_ieee()
    implementation = loaded.implementation
    outputs = plan.outputs if plan.outputs is not None else implementation.measured_outputs()
    for output in outputs:
        plan.function.check_output(output)
    for fmt in plan.fmts:
        if fmt not in implementation.formats:
            known = ", ".join(f.name for f in implementation.formats)
            raise UsageError(f"{implementation.name} claims {known}, and fmt={fmt.name!r} was asked for")
    bounds = Bounds(plan)
    for fmt in plan.fmts:
        for output in outputs:
            bounds.bound(fmt.name, output)  # a file without it is found before anything is measured
    sets = _sets(plan, implementation)
    yield Planned(tuple(outputs), tuple(sets))
    trial = _Trial(plan, implementation, bounds, progress, announce, isolated)
    for fmt in plan.fmts:
        for position, (name, params) in enumerate(sets.items()):
            case = Case(implementation, fmt, Asked(params), tuple(outputs), plan.inputs, plan.finite, name)
            each = f"{fmt.name} {name}" in plan.one_by_one
            for part in [case.giving(o) for o in outputs] if each else [case]:
                stage = f"accuracy {fmt.name} {name} {' '.join(part.outputs)}"
                if stage not in plan.done:
                    yield from trial.measured(part, stage)
                    yield from _altered(case)
            stage = f"against {fmt.name} {name}"
            if loaded.baseline is not None and stage not in plan.done:
                yield from _baseline(replace(case, implementation=loaded.baseline), stage)
            if position == 0:
                yield from trial.examined(case)
                yield from trial.lawful(case)
                yield from _altered(case)


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


def _altered(case: Case) -> Iterator[Event]:
    """A fault for each of torch's switches that the kernel has changed."""
    for words in changed_switches():
        yield Examined(
            (case.finding("alters_environment", f"{words} for the whole process; it is set back"),)
        )


class _Trial:
    """The stages of one kernel, and what earlier ones have found out about it."""

    def __init__(
        self, plan: Plan, implementation: Implementation, bounds: Bounds, progress: Progress | None,
        announce: Announce, isolated: bool,
    ) -> None:  # fmt: skip
        self.plan, self.implementation, self.bounds = plan, implementation, bounds
        self.progress, self.announce, self.isolated = progress, announce, isolated
        self.contracts: dict[FloatFormat, CallContract] = {}  # found by trying
        self.failed: dict[str, set[str]] = {}  # by format, why outputs could not be measured
        self.accurate: dict[str, set[str]] = {}  # by format, outputs within their bounds
        # By format, outputs that are no device's like this, and why: nothing seen of them is true of it.
        self.elsewhere: dict[str, dict[str, str]] = {}
        self.differing: set[str] = set()  # formats in which not all configurations give the same

    def called(self, case: Case) -> Case:
        """The case with the contract that was found for its format."""
        found = self.contracts.get(case.fmt)
        return case if found is None else case.called_as(found)

    def measured(self, case: Case, stage: str) -> Iterator[Event]:
        if case.params_name in self.plan.added_sets and (reason := _unreachable(case)):
            gaps = tuple(NotExamined(o, case.fmt.name, case.params_name, reason, False) for o in case.outputs)
            yield Examined(not_examined=gaps)
            return
        yield Begin(stage, tuple(case.unmeasured(output) for output in case.outputs))
        found = self._run(case)
        refusal = next((m.failure for m in found if m.failure and m.failure.kind in REFUSALS), None)
        if refusal is not None:
            faults = self._sought(case, refusal.message, found[0].n_inputs)
            if faults:
                yield Examined(faults)
                found = self._run(case)
        for m in found:
            self._learn(m)
            yield Measured(m)
        yield from self._tuned_otherwise(case, found)

    def _tuned_otherwise(self, case: Case, first: Sequence[Measurement]) -> Iterator[Event]:
        """The same for every other configuration of an autotuned kernel: a device may choose any.

        Outputs whose bits are all the first configuration's have its errors, too.
        """
        device = self.implementation.device
        known = device.configurations()
        if len(known) < 2:
            return
        called = self.called(case)
        before = {m.output: m for m in first}
        bits = None if any(m.failure for m in first) else called.points.bits
        plain = None if bits is None else run(called, bits)
        for index, words in enumerate(known[1:], 1):
            device.configure(index)
            try:
                outputs = case.outputs
                if plain is not None and bits is not None:
                    self.announce("every input in one call, in another configuration")
                    outputs = _differing(plain, run(called, bits))
                for m in self._run(case.giving(*outputs)) if outputs else ():
                    if _figures(m) != _figures(before[m.output]):
                        self.differing.add(case.fmt.name)
                        yield Measured(replace(m, implementation=f"{m.implementation} ({words})"))
            finally:
                device.configure(0)
            if self.progress is not None:
                self.progress("configurations", index, len(known) - 1)
        state = "broken" if case.fmt.name in self.differing else "holds"
        yield Examined(
            examination=Examination(
                CONFIGURATIONS, case.fmt.name, case.params_name, state, f"{len(known)} of them"
            )
        )

    def _run(self, case: Case) -> list[Measurement]:
        self.announce("every input of the measurement in one call")
        try:
            return measure_all(self.called(case), progress=self.progress)
        except EnvironmentAltersResultsError as error:
            failure = Failure("alters_environment", flushing_off(error))
            return [case.unmeasured(output, failure) for output in case.outputs]

    def _learn(self, m: Measurement) -> None:
        self.bounds.note(m)
        if m.failure is not None:
            self.failed.setdefault(m.fmt, set()).add(m.failure.kind)
            if m.failure.kind == "not_emulated":
                self.elsewhere.setdefault(f"{m.fmt} {m.params_name}", {})[m.output] = m.failure.message
        bound = self.bounds.working(m.fmt, m.output)
        clean = m.failure is None and not (m.nonfinite_mismatch or m.wrong_sign)  # nor any that is known
        if bound is not None and clean and not any(f.code in _INACCURATE for f in judge(m, bound)):
            self.accurate.setdefault(f"{m.fmt} {m.params_name}", set()).add(m.output)

    def _sought(self, case: Case, why: str, n: int) -> tuple[Finding, ...]:
        """The fault of a refusal that no contract declares, where other calls are accepted."""
        if case.fmt in self.contracts:
            return ()
        found = undeclared_contract(case, self.announce)
        if found is None:
            return ()
        self.contracts[case.fmt] = found
        kind = "refuses_shapes" if found.shapes else "refuses_lengths"
        message = (
            f"x of {n} elements in one dimension: {why}. {found.words()} are accepted, and what follows was "
            "examined with those"
        )
        return (case.finding(kind, message),)

    def examined(self, case: Case) -> Iterator[Event]:
        plan, where = self.plan, f"{case.fmt.name} {case.params_name}"
        stages = {f"property {where} {prop}": prop for prop in plan.properties}
        plain = f"{PLAIN_CALL} {where}"
        if not stages or plain in plan.done or all(stage in plan.done for stage in stages):
            return
        yield Begin(plain)
        subject: Subject | None = None
        why: KernelError | None = None
        try:
            subject = self._subject(case)
        except KernelError as error:
            why = error
            faults = self._sought(case, str(error), 4097) if error.kind in REFUSALS else ()
            if faults:
                yield Examined(faults)
                try:
                    subject = self._subject(case)
                except KernelError as again:
                    why = again
        if subject is None:
            assert why is not None
            yield from self._unexaminable(case, why)
            return
        for stage, prop in stages.items():
            if stage not in plan.done:
                yield Begin(stage)
                found = examine(subject, prop)
                state = "broken" if found.faults else "does not apply" if found.inapplicable else "holds"
                faults = tuple(replayed(plan, self.implementation, f, prop) for f in found.faults)
                yield Examined(
                    faults, found.notes, found.not_examined,
                    Examination(prop, case.fmt.name, case.params_name, state, found.inapplicable),
                )  # fmt: skip

    def lawful(self, case: Case) -> Iterator[Event]:
        fmt, name = case.fmt.name, case.params_name
        stage = f"{LAWS} {fmt} {name}"
        if not self.plan.laws or stage in self.plan.done:
            return
        from precision_lab.verifying.laws import broken_laws  # Hypothesis, which nobody else needs

        yield Begin(stage)
        elsewhere = self.elsewhere.get(f"{fmt} {name}", {})
        outputs = [o for o in case.outputs if o not in elsewhere]
        # Other parameters have other errors: of a file's bounds, the widest counts.
        held = [bound for o in outputs if (bound := self.bounds.bound(fmt, o)) is not None]
        if not held:
            no_bound = "no bound is given that results at other parameters must keep"
            reason = no_bound if outputs else next(iter(elsewhere.values()))
            yield Examined(examination=Examination(LAWS, fmt, name, "not examined", reason))
            return
        limit = max(max(bound.max_ulp, *bound.regions.values(), 0.5) for bound in held)
        try:
            found = broken_laws(self.called(case.giving(*outputs)), Bound(limit), announce=self.announce)
        except EnvironmentAltersResultsError as error:
            message = f"while the laws were checked: {flushing_off(error)}"
            fault = case.finding("alters_environment", message, params_name="")
            yield Examined((fault,), examination=Examination(LAWS, fmt, name, "broken"))
            return
        faults = tuple(broken.finding(case) for broken in found if not broken.is_open)
        state = "broken" if faults else "not examined" if found else "holds"
        reason = found[0].message if state == "not examined" else ""
        yield Examined(faults, examination=Examination(LAWS, fmt, name, state, reason))

    def _subject(self, case: Case) -> Subject:
        given = {o: self.bounds.working(case.fmt.name, o) for o in case.outputs}
        elsewhere = self.elsewhere.get(f"{case.fmt.name} {case.params_name}", {})
        held = {o: bound for o, bound in given.items() if bound is not None and o not in elsewhere}
        if elsewhere and not held:
            raise KernelError("not_emulated", next(iter(elsewhere.values())))
        terms = Terms(
            held, frozenset(self.accurate.get(f"{case.fmt.name} {case.params_name}", ())), self.isolated,
            BUDGET if self.plan.budget is None else self.plan.budget,
            self.plan.budget is not None or "sizes" in self.plan.asked, self.announce,
        )  # fmt: skip
        return Subject(self.called(case).giving(*held), terms)

    def _unexaminable(self, case: Case, error: KernelError) -> Iterator[Event]:
        """What it means that a plain call fails: the measurement has said so, or it is a fault."""
        if error.kind not in self.failed.get(case.fmt.name, ()):
            fault = case.finding(error.kind, f"in a plain call: {error}")
            yield Examined((replayed(self.plan, self.implementation, fault, self.plan.properties[0]),))
        reason = str(error) if error.kind == "not_emulated" else f"a plain call fails: {error}"
        for prop in self.plan.properties:
            yield Examined(
                examination=Examination(prop, case.fmt.name, case.params_name, "not examined", reason)
            )


def _unreachable(case: Case) -> str:
    """Why a kernel cannot be given parameters that nobody asked for; "" where it can."""
    try:
        _ = case.effective
    except (KernelError, ValueError) as error:
        return f"it cannot be given these parameters: {error}"
    return ""


def _baseline(case: Case, stage: str) -> Iterator[Event]:
    yield Begin(stage)
    given = [o for o in case.outputs if o in case.implementation.measured_outputs()]
    if case.fmt in case.implementation.formats and given:
        for m in measure_all(replace(case, outputs=tuple(given), finite=False)):
            yield Measured(m, baseline=True)
