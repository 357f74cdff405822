"""The verdict on a kernel: pass, fail or inconclusive; nothing passes without evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from precision_lab.results import Examination, Finding, Measurement, NotExamined, ranked
from precision_lab.system.text import plain_message
from precision_lab.verifying.judge import describe


@dataclass(frozen=True)
class Verdict:
    """Outcome over several formats, outputs and properties.

    Attributes:
        faults: everything that is wrong, as it was met; empty if the kernel passed.
        known: faults that a bound file lists as accepted.
        notes: what a reader should know and no promise forbids.
        properties: engineering properties that were asked for.
        examinations: how each of them ended, by format.
        not_examined: what nobody looked at; where it was asked for, the verdict is inconclusive.
        undecided: inputs that the oracle could not decide, and results that it could not judge.
        left_out: what the caller left out by an option.
        bounds: what each output was held to, by "format.output"; see `Bound`.
        devices: on an emulated GPU, of which real ones each judgement is.
        max_ulp: the bound of all outputs; None where a bound file, another kernel or nothing holds.
        against: the implementation that it was held against; "" where none.
        finite: infinite and NaN inputs were left out.
    """

    measurements: tuple[Measurement, ...]
    faults: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    known: tuple[Finding, ...] = ()
    examinations: tuple[Examination, ...] = ()
    not_examined: tuple[NotExamined, ...] = ()
    undecided: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()
    bounds: Mapping[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    devices: tuple[str, ...] = ()
    max_ulp: float | None = None
    against: str = ""
    finite: bool = False

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
        """One message per fault, the worst first, each with a witness and a replay command if it has one."""
        return tuple(describe(fault) for fault in ranked(self.faults))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that keeps the kernel from passing, the worst first: its faults, and what is undecided."""
        return ranked((*self.faults, *self.undecided))

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What its author should do next, each said once, in the order of the findings."""
        return tuple(dict.fromkeys(finding.next_step for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "passed": self.passed,
            "failures": list(self.failures),
            "findings": [finding.to_json() for finding in self.findings],
            "faults": [fault.to_json() for fault in ranked(self.faults)],
            "known": [fault.to_json() for fault in ranked(self.known)],
            "undecided": [fault.to_json() for fault in ranked(self.undecided)],
            "notes": list(self.notes),
            "devices": list(self.devices),
            "properties": list(self.properties),
            "examinations": [asdict(e) for e in self.examinations],
            "not_examined": [asdict(g) for g in self.not_examined],
            "left_out": list(self.left_out),
            "finite": self.finite,
            "bounds": dict(self.bounds),
            "measurements": [m.to_json() for m in self.measurements],
        }
