"""What a verdict is to examine, and the events in which it learns of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.contract import CallContract
from precision_lab.results import Examination, Finding, Measurement, NotExamined
from precision_lab.verifying.bounds import Bound

CONFIGURATIONS = "configurations"  # of an autotuned kernel: all give the same
LAWS = "laws"  # examined like a property
PLAIN_CALL = "plain call"  # of the stage that prepares the properties of a format


@dataclass(frozen=True)
class Plan:
    """What to do with a kernel; it is pickled on its way to another process.

    Attributes:
        outputs: None for all that the kernel can give.
        parameter_sets: values by name; the properties are examined at the first.
        added_sets: those of them that nobody asked for: what a kernel cannot be given is left out.
        inputs: as `measure`.
        max_ulp: None where nothing is promised: then the kernel's own errors are what its
            engineering properties are held to.
        bound_file: instead of max_ulp.
        properties: engineering properties to examine.
        asked: properties that the caller named.
        contract: the calls that the kernel accepts, as its author declares them.
        finite: leave infinite and NaN inputs out.
        budget: seconds for large calls, of every format; None for the default.
        against: name of the registered implementation measured beside it.
        laws: check the laws of `search` for parameters that Hypothesis chooses.
        one_by_one: formats, with a set of parameters, in which each output is run alone.
        done: stages to leave out.
    """

    function: Activation
    fmts: tuple[FloatFormat, ...]
    outputs: tuple[str, ...] | None
    parameter_sets: Mapping[str, Mapping[str, float]]
    added_sets: tuple[str, ...] = ()
    inputs: str | None = None
    max_ulp: float | None = 1.0
    bound_file: str | None = None
    properties: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    contract: CallContract = field(default_factory=CallContract)
    finite: bool = False
    budget: float | None = None
    against: str | None = None
    laws: bool = False
    one_by_one: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What is going to be measured: without all of it there is no verdict."""

    outputs: tuple[str, ...]
    parameter_sets: tuple[str, ...]


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
    """What a stage found beside measurements; `examination` where the stage was a property or the laws."""

    faults: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    not_examined: tuple[NotExamined, ...] = ()
    examination: Examination | None = None


Event = Planned | Begin | Measured | Examined


@dataclass
class Bounds:
    """The bound of each output: one for all, a file's, or what was measured."""

    plan: Plan
    measured: dict[tuple[str, str], Bound] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._file = None
        if self.plan.bound_file is not None:
            from precision_lab.verifying.bound_file import read

            self._file = read(Path(self.plan.bound_file))

    def accepted(self, fmt: str) -> frozenset[str]:
        """Kinds of engineering faults that the file knows of."""
        if self._file is None:
            return frozenset()
        return self._file.accepted.get((self.plan.function.name, fmt), frozenset())

    def bound(self, fmt: str, output: str) -> Bound | None:
        """None where nothing is promised."""
        if self._file is not None:
            return self._file.bound(self.plan.function.name, fmt, output)
        return None if self.plan.max_ulp is None else Bound(self.plan.max_ulp)

    def note(self, m: Measurement) -> None:
        if m.failure is None:
            regions = {name: max(0.5, s.max_ulp) for name, s in m.regions.items()}
            self.measured[m.fmt, m.output] = Bound(max(0.5, m.max_ulp), "measured", regions)

    def working(self, fmt: str, output: str) -> Bound | None:
        """What results are held to when they differ: the promise, else what was measured."""
        promised = self.bound(fmt, output)
        return promised if promised is not None else self.measured.get((fmt, output))
