"""One kernel on trial: what is to be measured and examined, as a stream of events.

The same stream is read in this process or, from a child process, by `isolation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precision_lab.bounds import Bound
from precision_lab.results import Failure, Fault, Measurement

if TYPE_CHECKING:
    from precision_lab.implementations import Implementation

PLAIN_CALL = "plain call"  # of the stage that prepares the properties of a format


@dataclass(frozen=True)
class Plan:
    """What to do with a kernel; plain data, so that it travels to another process.

    Attributes:
        outputs: None for all that the kernel can give.
        parameter_sets: values by name; the properties are examined at the first.
        inputs: as `measure`.
        max_ulp: None where nothing is promised: then the kernel's own errors are what its
            engineering properties are held to.
        bound_file: instead of max_ulp.
        properties: engineering properties to examine.
        against: registered implementation measured beside it.
        laws: check the laws of `search` for parameters that Hypothesis chooses.
        one_by_one: formats, with a set of parameters, in which each output is run alone.
        done: stages to leave out.
    """

    function: str
    fmts: tuple[str, ...]
    outputs: tuple[str, ...] | None
    parameter_sets: Mapping[str, Mapping[str, float]]
    inputs: str | None = None
    max_ulp: float | None = 1.0
    bound_file: str | None = None
    properties: tuple[str, ...] = ()
    against: str | None = None
    laws: bool = False
    one_by_one: tuple[str, ...] = ()
    done: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        values = dict(data)
        for name in ("fmts", "properties", "one_by_one", "done"):
            values[name] = tuple(values[name])
        if values["outputs"] is not None:
            values["outputs"] = tuple(values["outputs"])
        return cls(**values)


@dataclass(frozen=True)
class Begin:
    """A stage begins: should the process die now, `blanks` say which measurements it takes with it."""

    stage: str
    blanks: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Measured:
    measurement: Measurement
    baseline: bool = False


@dataclass(frozen=True)
class Examined:
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


Event = Begin | Measured | Examined
Report = Callable[[int, int], None]  # inputs done, inputs in all


@dataclass
class Bounds:
    """The bound of each output: one for all, a file's, or what was measured."""

    plan: Plan
    measured: dict[tuple[str, str], Bound] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._file = None
        if self.plan.bound_file is not None:
            from precision_lab.bound_file import read

            self._file = read(Path(self.plan.bound_file))

    def accepted(self, fmt: str) -> frozenset[str]:
        """Kinds of engineering faults that the file knows of."""
        if self._file is None:
            return frozenset()
        return self._file.accepted.get((self.plan.function, fmt), frozenset())

    def bound(self, fmt: str, output: str) -> Bound | None:
        """None where nothing is promised."""
        if self._file is not None:
            return self._file.bound(self.plan.function, fmt, output)
        return None if self.plan.max_ulp is None else Bound(self.plan.max_ulp)

    def note(self, m: Measurement) -> None:
        if m.failure is None:
            regions = {name: max(0.5, s.max_ulp) for name, s in m.regions.items()}
            self.measured[m.fmt, m.output] = Bound(max(0.5, m.max_ulp), "measured", regions)

    def working(self, fmt: str, output: str) -> Bound | None:
        """What results are held to when they differ: the promise, else what was measured."""
        promised = self.bound(fmt, output)
        return promised if promised is not None else self.measured.get((fmt, output))


def events(plan: Plan, implementation: Implementation, progress: Report | None = None) -> Iterator[Event]:
    """Measures and examines; a fault of the kernel is an event, and the next stage goes on.

    Args:
        progress: called where a measurement takes long.

    Raises:
        ValueError: an unknown output or format, or one that the kernel does not claim.
        EnvironmentAltersResultsError: subnormals were flushed before the kernel ran.
    """
    from precision_lab.functions import get_function
    from precision_lab.implementations import resolve
    from precision_lab.implementations.placement import on_device
    from precision_lab.selfcheck import require_ieee

    require_ieee()
    definition = get_function(plan.function)
    outputs = plan.outputs if plan.outputs is not None else implementation.measured_outputs()
    for output in outputs:
        definition.check_output(output)
    for fmt in plan.fmts:
        if fmt not in implementation.formats:
            known = ", ".join(implementation.formats)
            raise ValueError(f"{implementation.name} claims {known}, and fmt={fmt!r} was asked for")
    bounds = Bounds(plan)
    for fmt in plan.fmts:
        for output in outputs:
            bounds.bound(fmt, output)  # a file without it is found before anything is measured
    watch = _Watch(plan.function, implementation.name)
    baseline = None
    if plan.against is not None:
        baseline = on_device(resolve(plan.against, definition.name, plan.fmts[0]), implementation.device)
    for fmt in plan.fmts:
        for position, (name, params) in enumerate(plan.parameter_sets.items()):
            groups = [(o,) for o in outputs] if f"{fmt} {name}" in plan.one_by_one else [tuple(outputs)]
            for group in groups:
                stage = f"accuracy {fmt} {name} {' '.join(group)}"
                if stage not in plan.done:
                    yield from _measured(
                        plan, implementation, fmt, name, params, group, stage, bounds, progress
                    )
                    yield from watch.altered(fmt, name)
            stage = f"against {fmt} {name}"
            if baseline is not None and stage not in plan.done:
                yield from _baseline(plan, baseline, fmt, name, params, outputs, stage)
            if position == 0:
                yield from _examined(plan, implementation, fmt, name, params, outputs, bounds)
                yield from _lawful(plan, implementation, fmt, name, outputs, bounds)
                yield from watch.altered(fmt, name)


class _Watch:
    """torch's own switches, as they were before the kernel ran."""

    def __init__(self, function: str, name: str) -> None:
        import torch

        self._function, self._name = function, name
        self._dtype, self._grad = torch.get_default_dtype(), torch.is_grad_enabled()

    def altered(self, fmt: str, params_name: str) -> Iterator[Event]:
        """A fault for each switch that is not as it was; it is set back."""
        import torch

        changed = []
        if torch.get_default_dtype() != self._dtype:
            changed.append(f"torch's default dtype was changed to {torch.get_default_dtype()}")
            torch.set_default_dtype(self._dtype)
        if torch.is_grad_enabled() != self._grad:
            changed.append("recording of gradients was switched over")
            torch.set_grad_enabled(self._grad)
        for words in changed:
            fault = Fault(
                "alters_environment", self._function, self._name, fmt, "", params_name,
                f"{words} for the whole process; it is set back",
            )  # fmt: skip
            yield Examined((fault,), ())


def _measured(
    plan: Plan, implementation: Implementation, fmt: str, name: str, params: Mapping[str, float],
    outputs: tuple[str, ...], stage: str, bounds: Bounds, progress: Report | None,
) -> Iterator[Event]:  # fmt: skip
    from precision_lab.exceptions import EnvironmentAltersResultsError
    from precision_lab.measure import blank_measurement, measure_all

    asked = dict(params)
    blanks = tuple(
        blank_measurement(implementation, fmt, output, name, asked, plan.inputs or "", 0)
        for output in outputs
    )
    yield Begin(stage, blanks)
    try:
        found = measure_all(
            implementation, outputs, fmt, asked, params_name=name, inputs=plan.inputs, progress=progress
        )
    except EnvironmentAltersResultsError as error:
        _restore()
        failure = Failure("alters_environment", f"{error}. It was switched off again")
        found = [replace(blank, failure=failure) for blank in blanks]
    for m in found:
        bounds.note(m)
        yield Measured(m)


def _restore() -> None:
    import torch

    torch.set_flush_denormal(False)


def _baseline(
    plan: Plan, baseline: Implementation, fmt: str, name: str, params: Mapping[str, float],
    outputs: tuple[str, ...], stage: str,
) -> Iterator[Event]:  # fmt: skip
    from precision_lab.measure import measure_all

    yield Begin(stage)
    given = [o for o in outputs if o in baseline.measured_outputs()]
    if fmt in baseline.formats and given:
        for m in measure_all(baseline, given, fmt, params, params_name=name, inputs=plan.inputs):
            yield Measured(m, baseline=True)


def _lawful(
    plan: Plan, implementation: Implementation, fmt: str, name: str, outputs: tuple[str, ...], bounds: Bounds
) -> Iterator[Event]:
    stage = f"laws {fmt} {name}"
    if not plan.laws or stage in plan.done:
        return
    from precision_lab.search import check_laws

    yield Begin(stage)
    # Other parameters have other errors: of a file's bounds, the widest counts.
    held = [bound for o in outputs if (bound := bounds.bound(fmt, o)) is not None]
    if not held:
        return
    limit = max(max(bound.max_ulp, *bound.regions.values(), 0.5) for bound in held)
    faults = tuple(
        Fault(
            "breaks_law" if broken.fault is None else broken.fault.kind, plan.function, implementation.name,
            fmt, "", "", broken.message, replay="" if broken.fault is None else broken.fault.replay,
        )
        for broken in check_laws(implementation, plan.function, fmt=fmt, max_ulp=limit)
    )  # fmt: skip
    yield Examined(faults, ())


def _examined(
    plan: Plan, implementation: Implementation, fmt: str, name: str, params: Mapping[str, float],
    outputs: tuple[str, ...], bounds: Bounds,
) -> Iterator[Event]:  # fmt: skip
    if not plan.properties:
        return
    from precision_lab.exceptions import KernelError
    from precision_lab.properties.registry import examine
    from precision_lab.properties.subject import Subject, Terms

    given = {o: bounds.working(fmt, o) for o in outputs}
    held = {o: bound for o, bound in given.items() if bound is not None}
    stages = {f"property {fmt} {name} {prop}": prop for prop in plan.properties}
    plain = f"{PLAIN_CALL} {fmt} {name}"
    if plain in plan.done or all(stage in plan.done for stage in stages):
        return
    yield Begin(plain)
    try:
        subject = Subject(implementation, fmt, params, tuple(held), name, Terms(held))
    except KernelError:
        return  # it fails in a plain call: the measurement has said so
    for stage, prop in stages.items():
        if stage not in plan.done:
            yield Begin(stage)
            found = examine(subject, prop)
            yield Examined(found.faults, found.notes)
