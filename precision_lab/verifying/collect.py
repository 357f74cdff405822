"""A stream of measurements and examinations + bounds → a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from precision_lab.oracle.certified import is_judged_at_infinity
from precision_lab.oracle.domain import has_gaps
from precision_lab.results import Examination, Finding, Measurement, NotExamined
from precision_lab.results.codes import OPEN
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import describe, judge, said_of_devices, worse_than
from precision_lab.verifying.plan import LAWS, Bounds, Event, Examined, Measured, Plan, Planned
from precision_lab.verifying.properties import DEFAULT_PROPERTIES
from precision_lab.verifying.verdict import Verdict

# What each finished verdict is handed to; the pytest plugin collects its report here.
LISTENERS: list[Callable[[Verdict], None]] = []


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a kernel was measured; `verdict` is on what had arrived, and names what is missing."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("interrupted")
        self.verdict = verdict


def collect(plan: Plan, stream: Iterable[Event]) -> Verdict:
    """The verdict on a stream of events; what the plan asks for and the stream lacks is not examined.

    Raises:
        Interrupted: the stream was, by Ctrl-C.
    """
    bounds = Bounds(plan)
    planned: Planned | None = None
    measurements: list[Measurement] = []
    baselines: dict[tuple[str, str, str], Measurement] = {}
    faults: list[Finding] = []
    notes: list[str] = []
    gaps: list[NotExamined] = []
    examinations: dict[tuple[str, str], Examination] = {}
    interrupted = False
    source = iter(stream)
    while True:
        try:
            event = next(source)
        except StopIteration:
            break
        except KeyboardInterrupt:
            interrupted = True
            notes.append("interrupted: what follows was not measured")
            break
        if isinstance(event, Planned):
            planned = event
        elif isinstance(event, Measured) and event.baseline:
            m = event.measurement
            baselines[m.fmt, m.output, m.params_name] = m
        elif isinstance(event, Measured):
            measurements.append(event.measurement)
        elif isinstance(event, Examined):
            faults += event.faults
            notes += event.notes
            gaps += event.not_examined
            if event.examination is not None:
                examinations[event.examination.fmt, event.examination.property] = event.examination
    notes += _unjudged(plan, measurements)
    judged: list[Finding] = []
    for m in measurements:
        bound = bounds.bound(m.fmt, m.output)
        if bound is not None:
            judged += judge(m, bound)
        elif m.failure is not None or m.undecided:
            judged += judge(m, Bound(1e300, wrong_sign=m.n_inputs, nonfinite=m.n_inputs, biased=True))
        baseline = baselines.get((m.fmt, m.output, m.params_name))
        failed = None if baseline is None else baseline.failure
        if baseline is not None and failed is None:
            judged += worse_than(m, baseline)
        elif plan.against is not None and m.failure is None:
            why = "there is none" if failed is None else failed.message
            what, reason = f"{m.output} against {plan.against}", f"no result of it to compare with: {why}"
            gaps.append(NotExamined(what, m.fmt, m.params_name, reason, True))
    known: list[Finding] = []
    for fault in faults:
        (known if fault.code in bounds.accepted(fault.fmt) else judged).append(fault)
    # Said once, though several stages may have met it.
    judged = list({describe(fault): fault for fault in judged}.values())
    verdict = Verdict(
        tuple(measurements),
        tuple(fault for fault in judged if fault.code not in OPEN),
        tuple(dict.fromkeys(notes)),
        plan.properties,
        tuple({describe(fault): fault for fault in known}.values()),
        tuple(examinations.values()),
        (*dict.fromkeys(gaps), *_missing(plan, planned, measurements, examinations, gaps)),
        tuple(fault for fault in judged if fault.code in OPEN),
        _left_out(plan, planned),
        {
            f"{m.fmt}.{m.output}": asdict(bound)
            for m in measurements
            if (bound := bounds.bound(m.fmt, m.output)) is not None
        },
        _devices(measurements, bounds),
        plan.max_ulp,
        plan.against or "",
        plan.finite,
    )
    if interrupted:
        raise Interrupted(verdict)
    for listen in LISTENERS:
        listen(verdict)
    return verdict


def _unjudged(plan: Plan, measurements: Iterable[Measurement]) -> Iterator[str]:
    """Outputs that nothing is held to at an infinity without a limit, or outside of the domain."""
    for output in dict.fromkeys(m.output for m in measurements if m.failure is None):
        params = next(m.params for m in measurements if m.output == output)
        ends = [end for end in (-1, 1) if not is_judged_at_infinity(plan.function, output, params, end)]
        if ends and not plan.finite:
            where = " and ".join("−∞" if end < 0 else "∞" for end in ends)
            yield (
                f"{output} is not judged at {where}: no limit is proven there. Where there is one, "
                f"declare it: "
                f"@activation(limits={{{output!r}: (…, …)}})"
            )
        if output != "forward" and has_gaps(plan.function.bound_expression("forward", params)):
            yield f"{output} is not judged where {plan.function.name} has no value"


def _devices(measurements: Iterable[Measurement], bounds: Bounds) -> tuple[str, ...]:
    """What each judgement is of, said once for all parameter sets of which it is the same."""
    found: dict[tuple[str, str], list[str]] = {}
    for m in measurements:
        bound = bounds.bound(m.fmt, m.output)
        if bound is not None and (words := said_of_devices(m, bound)):
            found.setdefault((f"{m.function}.{m.output}[{m.fmt}", words), []).append(m.params_name)
    return tuple(f"{what}, {', '.join(sets)}]: {words}" for (what, words), sets in found.items())


def _missing(
    plan: Plan, planned: Planned | None, measurements: Sequence[Measurement],
    examinations: Mapping[tuple[str, str], Examination], gaps: Sequence[NotExamined],
) -> list[NotExamined]:  # fmt: skip
    """What there must be evidence of, and is none."""
    outputs = (planned.outputs if planned else None) or plan.outputs
    sets = (planned.parameter_sets if planned else None) or tuple(plan.parameter_sets)
    seen = {(m.fmt, m.params_name, m.output) for m in measurements if m.failure or m.n_inputs > 0}
    seen |= {(g.fmt, g.params_name, g.what) for g in gaps}
    found = []
    for fmt in (f.name for f in plan.fmts):
        for name in sets:
            for output in outputs or ("every output",):
                if (fmt, name, output) not in seen:
                    found.append(NotExamined(output, fmt, name, "no measurement of it arrived", True))
        for prop in (*plan.properties, *([LAWS] if plan.laws else [])):
            examination = examinations.get((fmt, prop))
            if examination is None or examination.state == "not examined":
                reason = "no examination of it arrived" if examination is None else examination.reason
                found.append(NotExamined(prop, fmt, sets[0], reason, True))
    return found


def _left_out(plan: Plan, planned: Planned | None) -> tuple[str, ...]:
    """What the caller left out, each by the option that did it."""
    found = []
    everything = plan.function.outputs
    if plan.outputs is not None and (rest := [o for o in everything if o not in plan.outputs]):
        found.append(f"outputs: {', '.join(rest)}")
    if rest := [p for p in DEFAULT_PROPERTIES if p not in plan.properties]:
        found.append(f"properties: {', '.join(rest)}")
    if not plan.added_sets and plan.function.parameters:
        why = ", for which a bound file holds" if plan.bound_file and "init" in plan.parameter_sets else ""
        found.append(f"parameters other than {', '.join(map(repr, plan.parameter_sets))}{why}")
    if plan.finite:
        found.append("finite: infinite and NaN inputs")
    if not plan.contract.is_free:
        found.append(f"calls other than {plan.contract.words()}")
    return tuple(found)
