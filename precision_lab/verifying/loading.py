"""A kernel is loaded: what it is, what it is compared with, and what loading it did to the process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from precision_lab.devices import Device
from precision_lab.exceptions import EnvironmentAltersResultsError
from precision_lab.implementations import Implementation, as_implementation, resolve
from precision_lab.implementations.adapters.target import find, target_of
from precision_lab.implementations.inductor import Compiled
from precision_lab.implementations.switches import changed_switches, flushing_off, switches_kept
from precision_lab.results import Finding
from precision_lab.running.placement import on_device
from precision_lab.running.selfcheck import require_ieee
from precision_lab.verifying.plan import (
    Plan,
)


@dataclass(frozen=True)
class Loaded:
    """A kernel under test.

    Attributes:
        baseline: what it is compared with, on the same device.
        faults: what loading it did to the process.
    """

    implementation: Implementation
    baseline: Implementation | None
    faults: tuple[Finding, ...]


def load(target: Any, plan: Plan, *, framework: str | None, compiled: Compiled, device: Device) -> Loaded:
    """The implementation that a TARGET or an object is.

    Raises:
        ValueError: it is of no use, in the words of `target.find`.
        EnvironmentAltersResultsError: subnormals are flushed before the kernel was loaded.
    """
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
    said = [f"on loading, {words} for the whole process; it is set back" for words in changed_switches()]
    try:
        require_ieee()
    except EnvironmentAltersResultsError as error:
        off = flushing_off(error)
        require_ieee()
        said.append(f"loading it switched flushing on, as a library built with -ffast-math does: {off}")
    faults = [
        Finding(
            code="alters_environment", function=plan.function.name, implementation=found.name, fmt=fmt.name,
            params_name="", message=words,
        )
        for words in said
        for fmt in plan.fmts
    ]  # fmt: skip
    baseline = None
    if plan.against is not None:
        baseline = on_device(resolve(plan.against, plan.function, plan.fmts[0]), device)
    return Loaded(on_device(replace(found, contract=plan.contract), device), baseline, tuple(faults))
