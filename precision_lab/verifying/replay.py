"""The command that examines a property again."""

from __future__ import annotations

import shlex
from dataclasses import replace

from precision_lab.devices import CPU
from precision_lab.formats import FORMATS
from precision_lab.implementations import Implementation
from precision_lab.results import Finding
from precision_lab.results.measurement import named_function
from precision_lab.verifying.plan import Plan


def replayed(plan: Plan, implementation: Implementation, finding: Finding, prop: str) -> Finding:
    """A finding with the command that examines its property again, where it can name all that is in it."""
    target = implementation.target
    function = named_function(finding.function, plan.function.home)
    named = function and finding.fmt in FORMATS
    if not target or finding.replay or not named:
        return finding
    words = [
        f"precision-lab verify {shlex.quote(target)} --function {function} --format {finding.fmt}",
        f"--properties {prop}", *_options(plan, implementation, finding),
    ]  # fmt: skip
    return replace(finding, replay=" ".join(words))


def _options(plan: Plan, implementation: Implementation, finding: Finding) -> list[str]:
    params = plan.parameter_sets[finding.params_name]
    words = [f"--output {output}" for output in plan.outputs or ()]
    words += [f"--param {key}={value!r}" for key, value in params.items()]
    if plan.bound_file is not None:
        words.append(f"--bound {shlex.quote(plan.bound_file)}")
    elif plan.max_ulp not in (None, 1.0):
        words.append(f"--max-ulp {plan.max_ulp!r}")
    words += implementation.options()
    words += ["--finite"] if plan.finite else []
    if implementation.device != CPU:
        words.append(f"--device {implementation.device.name}")
    return words
