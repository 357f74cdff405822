"""Measurements and examinations + bounds → pass, fail or inconclusive; nothing passes without evidence."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precision_lab.bounds import Bound, Leaning, leaning
from precision_lab.contract import CallContract
from precision_lab.exceptions import DeviceLostError, UsageError, unknown_name
from precision_lab.formats import get_format, kernel_format
from precision_lab.properties import DEFAULT_PROPERTIES, ENGINEERING_PROPERTIES
from precision_lab.results import (
    Examination,
    Failure,
    Fault,
    Measurement,
    NotExamined,
    Statistics,
    Witness,
    exact_interval,
    replay_command,
)
from precision_lab.text import plain_message
from precision_lab.trial import (
    LAWS,
    Begin,
    Bounds,
    Event,
    Examined,
    Measured,
    Plan,
    Planned,
    Report,
    events,
    load,
)

if TYPE_CHECKING:
    from precision_lab.functions import Activation
    from precision_lab.implementations import Implementation

# Kinds that say nothing against a kernel: nobody knows.
_OPEN = ("undecided", "device_lost")
SLACK = 2.0**-10  # to which the oracle certifies an error: it is over a bound only beyond that

# What each finished verdict is handed to; the pytest plugin collects its report here.
LISTENERS: list[Callable[[Verdict], None]] = []


@dataclass(frozen=True)
class Verdict:
    """Outcome over several formats, outputs and properties.

    Attributes:
        faults: everything that is wrong, by kind; empty if the kernel passed.
        known: faults that a bound file lists as accepted.
        notes: what a reader should know and no promise forbids.
        properties: engineering properties that were asked for.
        examinations: how each of them ended, by format.
        not_examined: what nobody looked at; where it was asked for, the verdict is inconclusive.
        undecided: inputs that the oracle could not decide, and results that it could not judge.
        left_out: what the caller left out by an option.
        bounds: what each output was held to, by "format.output"; see `Bound`.
    """

    measurements: tuple[Measurement, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    known: tuple[Fault, ...] = ()
    examinations: tuple[Examination, ...] = ()
    not_examined: tuple[NotExamined, ...] = ()
    undecided: tuple[Fault, ...] = ()
    left_out: tuple[str, ...] = ()
    bounds: Mapping[str, dict[str, Any]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(plain_message, self.notes)))

    @property
    def outcome(self) -> str:
        """ "fail", "inconclusive" where something asked for has no evidence, else "pass"."""
        if self.faults:
            return "fail"
        return "inconclusive" if self.reasons else "pass"

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a verdict without faults would be inconclusive."""
        missing = (f"{g.what} [{g.fmt}, {g.params_name}]: {g.reason}" for g in self.not_examined if g.asked)
        return (*missing, *(describe(fault) for fault in self.undecided))

    @property
    def failures(self) -> tuple[str, ...]:
        """One message per fault, each with a witness and a replay command where there is one."""
        return tuple(describe(fault) for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "passed": self.passed,
            "failures": list(self.failures),
            "faults": [asdict(fault) for fault in self.faults],
            "known": [asdict(fault) for fault in self.known],
            "undecided": [asdict(fault) for fault in self.undecided],
            "notes": list(self.notes),
            "properties": list(self.properties),
            "examinations": [asdict(e) for e in self.examinations],
            "not_examined": [asdict(g) for g in self.not_examined],
            "left_out": list(self.left_out),
            "bounds": dict(self.bounds),
            "measurements": [m.to_json() for m in self.measurements],
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a kernel was measured; `verdict` is on what had arrived, and names what is missing."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("interrupted")
        self.verdict = verdict


def describe(fault: Fault) -> str:
    """A fault on one line."""
    what = f"{fault.function}.{fault.output}" if fault.output else fault.function
    where = ", ".join(part for part in (fault.implementation, fault.fmt, fault.params_name) if part)
    replay = f". Replay: {fault.replay}" if fault.replay else ""
    return f"{what}[{where}]: {fault.kind}: {fault.message}{replay}"


def judge(measurement: Measurement, bound: Bound) -> tuple[Fault, ...]:
    """The promises this measurement breaks; empty if it passes."""
    m = measurement
    if m.failure is not None:
        return (_fault(m, m.failure.kind, m.failure.message),)
    broken = []
    if m.undecided:
        broken.append(
            _fault(m, "undecided", f"undecided for {m.undecided} of {m.n_inputs} inputs; that is not a pass")
        )
    broken += _inaccurate(m, bound)
    if m.wrong_sign > bound.wrong_sign and m.sign_witness is not None:
        broken.append(_counted(m, "wrong_sign", "wrong sign", m.wrong_sign, bound.wrong_sign, m.sign_witness))
    if m.nonfinite_mismatch > bound.nonfinite and m.nonfinite_witness is not None:
        count, known = m.nonfinite_mismatch, bound.nonfinite
        broken.append(_counted(m, "nonfinite", "wrong infinity or NaN", count, known, m.nonfinite_witness))
    lean = None if bound.biased else leaning(m)
    if lean is not None:
        broken.append(_biased(m, lean))
    if bound.zero_sign and m.zero_sign_mismatch:
        text = f"a zero of the wrong sign for {m.zero_sign_mismatch} inputs"
        broken.append(replace(_fault(m, "zero_sign", text), count=m.zero_sign_mismatch))
    return tuple(broken)


def _inaccurate(m: Measurement, bound: Bound) -> list[Fault]:
    """At most two faults: subnormals taken for zero, and the worst of all other regions."""
    precision = get_format(m.output_fmt).precision
    over = {
        name: s
        for name, s in m.regions.items()
        if s.witness is not None and s.max_ulp > bound.limit(name, precision) + SLACK
    }
    flushed = {
        name: s
        for name, s in over.items()
        if name in ("subnormal_result", "subnormal_input") and _is_flushed(m, s)
    }
    found = []
    for kind, group in (
        ("inaccurate", {name: s for name, s in over.items() if name not in flushed}),
        ("flushes_subnormals", flushed),
    ):
        if not group:
            continue
        region = max(group, key=lambda name: group[name].max_ulp / bound.limit(name, precision))
        worst = group[region]
        assert worst.witness is not None
        others = [f"{name} {s.max_ulp:.4g}" for name, s in group.items() if name != region]
        also = f" (also {', '.join(others)})" if others else ""
        said = "subnormals are taken for zero: " if kind == "flushes_subnormals" else ""
        text = (
            f"{said}error {worst.max_ulp:.4g} ulps exceeds bound {bound.limit(region, precision):g} "
            f"in {region}{also} {_at(worst.witness)}"
        )
        fault = _fault(m, kind, text, worst.witness)
        count = sum(s.not_correctly_rounded for s in group.values())
        found.append(replace(fault, region=region, ulps=worst.witness.error_ulps, count=count))
    return found


def _biased(m: Measurement, lean: Leaning) -> Fault:
    side = "away from zero" if lean.lean > 0 else "toward zero"
    mean = ""
    if m.mean_signed_ulp is not None and m.nearest_signed_ulp is not None:
        mean = f"; mean error {m.mean_signed_ulp:+.2g} ulp, of correct rounding {m.nearest_signed_ulp:+.2g}"
    text = (
        f"results lean {side}{lean.where}: lean {lean.lean:+.2f} over {lean.inexact} inexact results within "
        f"one ulp, limit ±{lean.limit:.2f} (rounding to nearest has 0, truncation −0.50){mean}"
    )
    return replace(_fault(m, "biased", text, m.witness), count=lean.inexact)


def _is_flushed(m: Measurement, s: Statistics) -> bool:
    """Whether the worst result is what reading the input as zero, or storing zero, gives."""
    if s.witness is None:
        return False
    return s.witness.computed == 0.0


def _counted(m: Measurement, kind: str, what: str, count: int, known: int, witness: Witness) -> Fault:
    more = f", {known} of them known" if known else ""
    text = f"{what} for {count} inputs{more}, {_at(witness)}"
    return replace(_fault(m, kind, text, witness), count=count, ulps=witness.error_ulps)


def _fault(m: Measurement, kind: str, message: str, witness: Witness | None = None) -> Fault:
    name = m.implementation if m.execution == "eager" else f"{m.implementation} [{m.execution}]"
    replay = "" if witness is None else replay_command(m, witness)
    return Fault(kind, m.function, name, m.fmt, m.output, m.params_name, message, replay=replay)


def _at(w: Witness) -> str:
    return (
        f"at x={w.x!r} ({w.x_hex}, bits {w.bits}): computed {w.computed!r} ({w.computed_bits}), "
        f"exact in {exact_interval(w)}"
    )


def worse_than(m: Measurement, baseline: Measurement) -> tuple[Fault, ...]:
    """Where a kernel is less accurate than another on the same inputs, both against the exact value."""
    if m.failure is not None:
        return ()
    broken = []
    for region, s in m.regions.items():
        other = baseline.regions.get(region)
        if other is not None and s.witness is not None and s.max_ulp > other.max_ulp + 2 * SLACK:
            broken.append((s.max_ulp / max(other.max_ulp, 0.5), region, s, other))
    faults = []
    if broken:
        _, region, s, other = max(broken, key=lambda entry: entry[:2])
        assert s.witness is not None
        text = (
            f"error {s.max_ulp:.4g} ulps in {region}, where {baseline.implementation} has "
            f"{other.max_ulp:.4g}, {_at(s.witness)}"
        )
        faults.append(replace(_fault(m, "worse_than", text, s.witness), region=region, ulps=s.max_ulp))
    for what, mine, theirs, witness in (
        ("wrong sign", m.wrong_sign, baseline.wrong_sign, m.sign_witness),
        ("wrong infinity or NaN", m.nonfinite_mismatch, baseline.nonfinite_mismatch, m.nonfinite_witness),
    ):
        if mine > theirs and witness is not None:
            text = f"{what} for {mine} inputs, {baseline.implementation} for {theirs}, {_at(witness)}"
            faults.append(replace(_fault(m, "worse_than", text, witness), count=mine))
    return tuple(faults)


def collect(plan: Plan, stream: Iterable[Event]) -> Verdict:
    """The verdict on a stream of events; what the plan asks for and the stream lacks is not examined.

    Raises:
        Interrupted: the stream was, by Ctrl-C.
    """
    bounds = Bounds(plan)
    planned: Planned | None = None
    measurements: list[Measurement] = []
    baselines: dict[tuple[str, str, str], Measurement] = {}
    faults: list[Fault] = []
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
    judged: list[Fault] = []
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
    known: list[Fault] = []
    for fault in faults:
        (known if fault.kind in bounds.accepted(fault.fmt) else judged).append(fault)
    # Said once, though several stages may have met it.
    judged = list({describe(fault): fault for fault in judged}.values())
    verdict = Verdict(
        tuple(measurements),
        tuple(fault for fault in judged if fault.kind not in _OPEN),
        tuple(dict.fromkeys(notes)),
        plan.properties,
        tuple({describe(fault): fault for fault in known}.values()),
        tuple(examinations.values()),
        (*dict.fromkeys(gaps), *_missing(plan, planned, measurements, examinations, gaps)),
        tuple(fault for fault in judged if fault.kind in _OPEN),
        _left_out(plan, planned),
        {
            f"{m.fmt}.{m.output}": asdict(bound)
            for m in measurements
            if (bound := bounds.bound(m.fmt, m.output)) is not None
        },
    )
    if interrupted:
        raise Interrupted(verdict)
    for listen in LISTENERS:
        listen(verdict)
    return verdict


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
    for fmt in plan.fmts:
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
    from precision_lab.functions import get_function

    found = []
    everything = get_function(plan.function).outputs
    if plan.outputs is not None and (rest := [o for o in everything if o not in plan.outputs]):
        found.append(f"outputs: {', '.join(rest)}")
    if rest := [p for p in DEFAULT_PROPERTIES if p not in plan.properties]:
        found.append(f"properties: {', '.join(rest)}")
    if not plan.added_sets and get_function(plan.function).parameters:
        why = ", for which a bound file holds" if plan.bound_file and "init" in plan.parameter_sets else ""
        found.append(f"parameters other than {', '.join(map(repr, plan.parameter_sets))}{why}")
    if plan.finite:
        found.append("finite: infinite and NaN inputs")
    if not plan.contract.is_free:
        found.append(f"calls other than {plan.contract.words()}")
    return tuple(found)


def make_plan(
    function: str,
    *,
    fmts: Sequence[str],
    outputs: Sequence[str] | None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None,
    inputs: str | None,
    max_ulp: float | None,
    bound: str | Path | None,
    properties: Sequence[str] | bool,
    against: str | None,
    compiled: bool,
    laws: bool,
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Plan:
    """A checked plan.

    Raises:
        ValueError: an unknown function, format, output, parameter or property; max_ulp below 0.5;
            max_ulp and a bound file together.
    """
    from precision_lab.functions import get_function

    if laws:
        import precision_lab.strategies  # noqa: F401 - what it needs is missed before anything is measured
    definition = get_function(function)
    fmts = tuple(dict.fromkeys(kernel_format(fmt).name for fmt in fmts))
    if not fmts:
        raise UsageError("fmts is empty: there is nothing to verify")
    for output in outputs or ():
        definition.check_output(output)
    if max_ulp is not None and bound is not None:
        raise UsageError(f"max_ulp={max_ulp!r} and bound={str(bound)!r} contradict each other: give one")
    if max_ulp is not None:
        Bound(max_ulp)
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        raise UsageError(f"budget={budget!r}: must be a number of seconds, 0 or more")
    sets: dict[str, Mapping[str, float]] = {}
    added: tuple[str, ...] = ()
    if params is None and (bound is not None or (max_ulp is None and against is None)):
        # What is recorded is one limit for all sets: those of extreme parameters would let anything pass.
        sets = {"init": definition.check_params()}
    elif params is None:
        sets = {**definition.parameter_sets, **random_sets(definition)}
        added = tuple(sets)[1:]
    elif params and all(isinstance(value, Mapping) for value in params.values()):
        sets = {name: definition.check_params(values) for name, values in params.items()}  # type: ignore[arg-type]
    else:
        given: Any = params
        values = definition.check_params(given)
        sets = {"init" if values == definition.check_params() else "given": values}
    asked = () if isinstance(properties, bool) else tuple(properties)
    if properties is True or properties is False:
        properties = (ENGINEERING_PROPERTIES if compiled else DEFAULT_PROPERTIES) if properties else ()
    for name in properties:
        if name not in ENGINEERING_PROPERTIES:
            raise unknown_name("property", name, ENGINEERING_PROPERTIES)
    if outputs is not None and len(outputs) == 0:
        raise UsageError("outputs is empty: there is nothing to verify")
    return Plan(
        definition.name, fmts, None if outputs is None else tuple(outputs), sets, added, inputs, max_ulp,
        None if bound is None else str(bound), tuple(properties), asked,
        CallContract(multiple_of, tuple(tuple(pattern) for pattern in shapes)), finite, budget, against, laws,
    )  # fmt: skip


RANDOM_SETS = 2


def random_sets(function: Activation) -> dict[str, dict[str, float]]:
    """Parameter values that nobody chose, the same every time: what training may make of the initial ones.

    Those that are trained through a constraint are drawn, or all where none is; log-uniform in [1/16, 16],
    beyond β where they must be.
    """
    raw = [p for p in function.parameters if p.raw is not None] or list(function.parameters)
    generator = random.Random(f"precision_lab {function.name}")  # not numpy's: help and checks load none
    found = {}
    for i in range(RANDOM_SETS if raw else 0):
        values = function.check_params()
        # β first, which may be drawn too.
        for parameter in sorted(raw, key=lambda p: p.raw == "softplus+beta"):
            size = 2.0 ** generator.uniform(-4, 4)
            beta = values.get("beta", 0.0) if parameter.raw == "softplus+beta" else 0.0
            # Four digits, so that a replay is short to write.
            values[parameter.name] = float(f"{beta + size:.4g}")
        found[f"random-{i + 1}"] = values
    return found


def verify(
    kernel: Any,
    function: str,
    *,
    fmts: Sequence[str] = ("bf16", "fp32"),
    outputs: Sequence[str] | None = None,
    max_ulp: float | None = None,
    bound: str | Path | None = None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    inputs: str | None = None,
    properties: Sequence[str] | bool = True,
    against: str | None = None,
    framework: str | None = None,
    compiled: bool = False,
    isolate: bool | None = None,
    time_limit: float = 120.0,
    progress: Report | None = None,
    promise: bool = True,
    laws: bool = False,
    device: str = "cpu",
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Verdict:
    """Measures a kernel in several formats, examines what kernels break beside accuracy, and judges both.

    Args:
        kernel: as `measure`, a module's class or factory, a numpy, JAX or MLX callable, or a TARGET
            such as "my_kernels.py:xielu" or "libkernels.so:xielu".
        outputs: by default all that the kernel can give.
        max_ulp: 1 if neither it nor `bound` nor `against` is given.
        bound: a bound file instead.
        params: values, or several named sets of values. By default every named set of the function and
            two random ones; of a kernel that is not given a parameter, only the sets that differ for it.
            With a bound file, or where nothing is promised, the initial ones alone.
        inputs: as `measure`; by default exhaustive for 8- and 16-bit formats.
        properties: engineering properties by name (`ENGINEERING_PROPERTIES`). True for all but
            "compilation", which compiles the kernel to compare; with `compiled`, for that too.
        against: a registered implementation that the kernel must not be worse than, in any region.
        framework: "torch", "numpy", "jax" or "mlx" where it is not recognised.
        compiled: run a torch kernel through torch.compile.
        isolate: run it in a process of its own. Only for a TARGET, and by default for every one; on a
            GPU also for a registered name.
        time_limit: seconds without an answer after which an isolated kernel counts as hung.
        progress: called with inputs done and inputs in all where that takes long.
        promise: False to hold accuracy to nothing; engineering properties are then held to what
            was measured.
        laws: also let Hypothesis choose parameters and check `search.LAWS` for them.
        device: where the kernel runs: "cpu", "cuda" or "cuda:N". A kernel that destroys its CUDA
            context is a crash. Where it is isolated, a new process goes on; elsewhere what was measured
            is kept, and the rest is named as not measured.
        multiple_of: the kernel takes only multiples of so many elements in the last dimension.
        shapes: it takes only these shapes, None for any size: ((None, 4096),).
        finite: leave infinite and NaN inputs and upstream gradients out.
        budget: seconds for large calls in each format, by default about one; if given, what does not fit
            makes the verdict inconclusive.

    Raises:
        ValueError: wrong use, of whatever kind; the message names the argument.
        MissingPackageError: laws are asked for, and Hypothesis is not installed.
        EnvironmentAltersResultsError: subnormals are flushed before the kernel has run.
    """
    __tracebackhide__ = True
    from precision_lab.implementations.placement import check_device
    from precision_lab.target import is_registered_name

    check_device(device)
    if promise and max_ulp is None and bound is None and against is None:
        max_ulp = 1.0
    if against == "eager":
        against = eager_baseline(function)
    plan = make_plan(
        function, fmts=fmts, outputs=outputs, params=params, inputs=inputs, max_ulp=max_ulp, bound=bound,
        properties=properties, against=against, compiled=compiled, laws=laws, multiple_of=multiple_of,
        shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    stranger = isinstance(kernel, str) and (device != "cpu" or not is_registered_name(kernel))
    if isolate and not stranger:
        raise UsageError(
            f"isolate=True needs a TARGET such as 'my_kernels.py:xielu' that another process can load; "
            f"got kernel={kernel!r}"
        )
    if stranger and isolate is not False:
        from precision_lab.isolation import isolated_events

        stream = isolated_events(
            plan, kernel, framework=framework, compiled=compiled, time_limit=time_limit, progress=progress,
            device=device,
        )  # fmt: skip
        return collect(plan, stream)
    from precision_lab.implementations.compiled import compiler_settings_kept
    from precision_lab.implementations.switches import random_state_kept

    with compiler_settings_kept(), random_state_kept():
        implementation, faults = load(kernel, plan, framework=framework, compiled=compiled, device=device)
        stream = _surviving(plan, implementation, events(plan, implementation, progress))
        return collect(plan, chain([Examined(faults)], stream))


def _surviving(plan: Plan, implementation: Implementation, stream: Iterable[Event]) -> Iterator[Event]:
    """The events of a kernel in this process, until it destroys the GPU's context; then what that leaves
    unmeasured, by name.
    """
    from precision_lab.measure import blank_measurement

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
            yield Examined((Fault("crashed", plan.function, implementation.name, "", "", "", message),), ())
        died = {(m.fmt, m.params_name, m.output) for m in stage.blanks}
        outputs = plan.outputs if plan.outputs is not None else implementation.measured_outputs()
        for fmt in plan.fmts:
            for name, params in plan.parameter_sets.items():
                for output in outputs:
                    key = (fmt, name, output)
                    if key not in seen:
                        failure = crash if key in died else Failure("device_lost", crash.message)
                        yield Measured(
                            blank_measurement(
                                implementation, fmt, output, name, dict(params), plan.inputs or "", 0, failure
                            )
                        )
        yield Examined(notes=("what follows the crash was not examined: the GPU's context is lost",))


# What kernel authors compare with today: the formulation as published or as torch has it, run eagerly.
_EAGER = {"xielu": "eps-expm1", "xiprelu": "as-printed"}


def eager_baseline(function: str) -> str:
    """Name of the registered eager formulation that a kernel of this function is usually held to.

    Raises:
        ValueError: none is registered.
    """
    from precision_lab.implementations import implementations_for

    names = [i.name for i in implementations_for(function, "eager")]
    if not names:
        raise UsageError(f"--against eager: no eager implementation of {function} is registered")
    wanted = _EAGER.get(function, "torch")
    return wanted if wanted in names else names[0]


def assert_accurate(
    kernel: Any,
    function: str,
    *,
    dtype: Any,
    max_ulp: float | None = None,
    outputs: Sequence[str] | None = None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    bound: str | Path | None = None,
    inputs: str | None = None,
    properties: Sequence[str] | bool = True,
    against: str | None = None,
    device: str = "cpu",
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Verdict:
    """Raises AssertionError, naming the worst inputs, unless `verify` passes the kernel.

    What was left out by an argument is printed.

    Args:
        dtype: a torch dtype or the name of a format.
        The others: as `verify`, with the same defaults.

    Returns:
        The verdict, which passed.
    """
    __tracebackhide__ = True
    from precision_lab.formats import FORMATS

    name = str(dtype).removeprefix("torch.")
    fmt = next((f.name for f in FORMATS.values() if name in (f.name, f.torch_name)), name)
    verdict = verify(
        kernel, function, fmts=(fmt,), outputs=outputs, max_ulp=max_ulp, params=params, bound=bound,
        inputs=inputs, properties=properties, against=against, isolate=False, device=device,
        multiple_of=multiple_of, shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    if verdict.left_out:
        print(f"precision_lab: {function} {fmt}: left out: {'; '.join(verdict.left_out)}")
    if not verdict.passed:
        raise AssertionError(explanation(verdict))
    return verdict


def explanation(verdict: Verdict) -> str:
    """Why a verdict is no pass: its failures, or what is missing."""
    if verdict.failures:
        return "\n".join(verdict.failures)
    return "\n".join(f"inconclusive: {reason}" for reason in verdict.reasons)
