"""Measurements and examinations + bounds → pass, fail or inconclusive; nothing passes without evidence."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from precision_lab.devices import CPU, Device, usable_device
from precision_lab.exceptions import DeviceLostError, UsageError, door, unknown_name
from precision_lab.formats import FORMATS, FloatFormat, get_format, kernel_format
from precision_lab.functions import Activation, Asked, get_function
from precision_lab.implementations import Implementation, implementations_for
from precision_lab.implementations.adapters.target import is_registered_name
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.switches import random_state_kept
from precision_lab.results import (
    Examination,
    Failure,
    Fault,
    Measurement,
    NotExamined,
)
from precision_lab.results.execution import EAGER
from precision_lab.results.profile import DEFAULT
from precision_lab.running.case import Case
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.system.progress import Progress
from precision_lab.system.text import plain_message
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.isolation import isolated_events
from precision_lab.verifying.judge import describe, judge, worse_than
from precision_lab.verifying.plan import (
    LAWS,
    Begin,
    Bounds,
    Event,
    Examined,
    Measured,
    Plan,
    Planned,
)
from precision_lab.verifying.properties import DEFAULT_PROPERTIES, ENGINEERING_PROPERTIES
from precision_lab.verifying.trial import events, load

# Kinds that say nothing against a kernel: nobody knows.
_OPEN = ("undecided", "device_lost")

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


def make_plan(
    function: str | Activation,
    *,
    fmts: Sequence[str | FloatFormat],
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
    if laws:
        import precision_lab.inputs.strategies  # noqa: F401 - what it needs is missed before anything is measured
    definition = get_function(function)
    formats = tuple(dict.fromkeys(kernel_format(fmt) for fmt in fmts))
    if not formats:
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
        definition, formats, None if outputs is None else tuple(outputs), sets, added, inputs, max_ulp,
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


@door
def verify(
    kernel: Any,
    function: str | Activation,
    *,
    fmts: Sequence[str | FloatFormat] = ("bf16", "fp32"),
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
    progress: Progress | None = None,
    promise: bool = True,
    laws: bool = False,
    device: str | Device = CPU,
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
    place = usable_device(device)
    if promise and max_ulp is None and bound is None and against is None:
        max_ulp = 1.0
    if against == "eager":
        against = eager_baseline(get_function(function))
    plan = make_plan(
        function, fmts=fmts, outputs=outputs, params=params, inputs=inputs, max_ulp=max_ulp, bound=bound,
        properties=properties, against=against, compiled=compiled, laws=laws, multiple_of=multiple_of,
        shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    stranger = isinstance(kernel, str) and (place != CPU or not is_registered_name(kernel))
    if isolate and not stranger:
        raise UsageError(
            f"isolate=True needs a TARGET such as 'my_kernels.py:xielu' that another process can load; "
            f"got kernel={kernel!r}"
        )
    if stranger and isolate is not False:
        stream = isolated_events(
            plan, kernel, framework=framework, compiled=compiled, time_limit=time_limit, progress=progress,
            device=place,
        )  # fmt: skip
        return collect(plan, stream)
    with compiler_settings_kept(), random_state_kept():
        loaded = load(kernel, plan, framework=framework, compiled=compiled, device=place)
        stream = _surviving(plan, loaded.implementation, events(plan, loaded, progress))
        return collect(plan, chain([Examined(loaded.faults)], stream))


def _surviving(plan: Plan, implementation: Implementation, stream: Iterable[Event]) -> Iterator[Event]:
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
            about = (plan.function.name, implementation.name)
            yield Examined((Fault("crashed", *about, "", "", "", message),), ())
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


def eager_baseline(function: Activation) -> str:
    """Name of the registered eager formulation that a kernel of this function is usually held to.

    What kernel authors compare with today: the formulation as published (`results/profile.toml`), or as torch
    has it.

    Raises:
        ValueError: none is registered.
    """
    names = [i.name for i in implementations_for(function, EAGER)]
    if not names:
        raise UsageError(f"--against eager: no eager implementation of {function.name} is registered")
    wanted = DEFAULT.eager.get(function.name, "torch")
    return wanted if wanted in names else names[0]


def assert_accurate(
    kernel: Any,
    function: str | Activation,
    *,
    dtype: Any,
    max_ulp: float | None = None,
    outputs: Sequence[str] | None = None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    bound: str | Path | None = None,
    inputs: str | None = None,
    properties: Sequence[str] | bool = True,
    against: str | None = None,
    device: str | Device = CPU,
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Verdict:
    """Raises AssertionError, naming the worst inputs, unless `verify` passes the kernel.

    What was left out by an argument is printed.

    Args:
        dtype: a torch dtype, a format or the name of one.
        The others: as `verify`, with the same defaults.

    Returns:
        The verdict, which passed.
    """
    __tracebackhide__ = True
    name = str(dtype).removeprefix("torch.")
    known = (f for f in FORMATS.values() if name in (f.name, f.torch_name))
    fmt = dtype if isinstance(dtype, FloatFormat) else get_format(next(known, name))
    verdict = verify(
        kernel, function, fmts=(fmt,), outputs=outputs, max_ulp=max_ulp, params=params, bound=bound,
        inputs=inputs, properties=properties, against=against, isolate=False, device=device,
        multiple_of=multiple_of, shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    if verdict.left_out:
        left_out = "; ".join(verdict.left_out)
        print(f"precision_lab: {get_function(function).name} {fmt.name}: left out: {left_out}")
    if not verdict.passed:
        raise AssertionError(explanation(verdict))
    return verdict


def explanation(verdict: Verdict) -> str:
    """Why a verdict is no pass: its failures, or what is missing."""
    if verdict.failures:
        return "\n".join(verdict.failures)
    return "\n".join(f"inconclusive: {reason}" for reason in verdict.reasons)
