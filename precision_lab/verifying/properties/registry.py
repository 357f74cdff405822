"""The properties by name, and how one is examined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from precision_lab.exceptions import EnvironmentAltersResultsError, unknown_name
from precision_lab.implementations.switches import flushing_off
from precision_lab.results import Finding
from precision_lab.running.runner import one_thread
from precision_lab.running.selfcheck import require_ieee
from precision_lab.verifying.properties.layout import positions, shapes, strides
from precision_lab.verifying.properties.lengths import lengths, unwritten
from precision_lab.verifying.properties.memory import memory
from precision_lab.verifying.properties.operands import operands
from precision_lab.verifying.properties.reductions import reductions
from precision_lab.verifying.properties.sizes import sizes
from precision_lab.verifying.properties.state import (
    arguments_kept,
    compilation,
    determinism,
    grad_mode,
    parameters_fresh,
    results_kept,
)
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.terms import Outcome
from precision_lab.verifying.properties.training import training_step
from precision_lab.verifying.properties.upstream import upstream

Property = Callable[[Subject], str | None]  # gives why it does not apply, if it does not

PROPERTIES: dict[str, Property] = {
    "determinism": determinism,
    "unwritten": unwritten,
    "lengths": lengths,
    "shapes": shapes,
    "positions": positions,
    "strides": strides,
    "sizes": sizes,
    "memory": memory,
    "arguments_kept": arguments_kept,
    "results_kept": results_kept,
    "grad_mode": grad_mode,
    "parameters_fresh": parameters_fresh,
    "upstream": upstream,
    "reductions": reductions,
    "operands": operands,
    "training_step": training_step,
    "compilation": compilation,
}


def examine(subject: Subject, name: str) -> Outcome:
    """What one engineering property finds out about a kernel.

    Raises:
        ValueError: an unknown property.
    """
    if name not in PROPERTIES:
        raise unknown_name("property", name, PROPERTIES)
    subject.faults, subject.notes, subject.not_examined = [], [], []
    inapplicable = None
    try:
        with one_thread(subject.implementation):
            inapplicable = PROPERTIES[name](subject)
            require_ieee()
    except EnvironmentAltersResultsError as error:
        subject.fault("alters_environment", flushing_off(error))
    return Outcome(
        _merged(subject.faults), tuple(dict.fromkeys(subject.notes)),
        tuple(dict.fromkeys(subject.not_examined)), inapplicable or "",
    )  # fmt: skip


def _merged(faults: Sequence[Finding]) -> tuple[Finding, ...]:
    """One fault per kind and output, the worst of them, with the number of situations in its message."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for fault in faults:
        groups.setdefault((fault.code, fault.output), []).append(fault)
    found = []
    for group in groups.values():
        worst = max(group, key=lambda f: (0.0 if math.isnan(f.ulps) else abs(f.ulps), f.count))
        more = f" (and in {len(group) - 1} other situations)" if len(group) > 1 else ""
        found.append(replace(worst, message=worst.message + more))
    return tuple(found)
