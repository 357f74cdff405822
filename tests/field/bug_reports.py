"""Findings of published kernels → bug reports, one for each cause."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from package import Note, Package

from precision_lab.formats import get_format
from precision_lab.results import Finding, Severity, Witness, ranked
from precision_lab.results.codes import CODES

Entries = dict[str, Any]


@dataclass
class Report:
    """One bug report: the findings that one cause explains.

    Attributes:
        names: of the kernels, in the package.
        inputs: how many inputs a finding's output was measured at.
        standings: what conforming devices may show of a finding's output.
        target: the emulated GPU; "" where it ran on this machine's CPU.
        machine_code: it was executed as its wheel has it, which no Python code can ask for without a GPU.
        needs: distributions that a kernel on a CPU is of.
    """

    package: str
    version: str
    name: str
    note: Note | None
    findings: list[Finding] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    replays: dict[int, str] = field(default_factory=dict)
    standings: dict[int, str] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    of: dict[int, str] = field(default_factory=dict)
    target: str = ""
    machine_code: bool = False
    needs: tuple[str, ...] = ()

    @property
    def worst(self) -> Finding:
        return ranked(self.findings, outer_last=False)[0]

    @property
    def told(self) -> Finding:
        """The worst of those of a format whose every input was measured, where it is as bad as any."""
        order = {"fp32": 1, "fp64": 2}
        return min(ranked(self.findings, outer_last=False), key=lambda f: (f.severity, order.get(f.fmt, 0)))

    @property
    def severity(self) -> Severity:
        by_hand = "" if self.note is None else self.note.severity
        return min(self.worst.severity, Severity[by_hand.upper()] if by_hand else Severity.NOTE)

    @property
    def title(self) -> str:
        if self.note is not None:
            return self.note.title
        worst = self.worst
        output = f" in {worst.output}" if worst.output else ""
        return f"{', '.join(self.kernels)}: {CODES[worst.code].sentence}{output}"

    @property
    def by_design(self) -> str:
        return "" if self.note is None else self.note.by_design


def reports(entries: Entries, known: Iterable[Package]) -> list[Report]:
    """All of them, the worst first; findings without a note of their own have a report each."""
    about = {package.name: package for package in known}
    found: dict[tuple[str, ...], Report] = {}
    for name, entry in entries.items():
        package = about.get(name)
        for row in (*entry.get("kernels", ()), *entry.get("quantisers", ())):
            kernel = row.get("kernel") or row["quantiser"]
            for finding, standing, inputs in _findings(row):
                notes = package.notes if package is not None else ()
                names = _names(kernel)
                number = next((k for k, note in enumerate(notes) if note.explains(names, finding)), None)
                own = (name, kernel_key(kernel), finding.code, finding.output)
                key = (name, str(number)) if number is not None else own
                report = found.setdefault(
                    key,
                    Report(
                        entry["package"]["package"], entry["package"]["version"], name,
                        None if number is None else notes[number],
                        target=entry.get("target", kernel.get("device", "sm_90")),
                        machine_code=package is not None and bool(package.library),
                        needs=tuple(row.get("needs", ())),
                    ),
                )  # fmt: skip
                report.findings.append(finding)
                report.kernels[kernel_key(kernel)] = kernel["of"]
                report.of[id(finding)] = kernel["of"]
                report.replays[id(finding)] = replay(name, row, finding)
                report.standings[id(finding)], report.inputs[id(finding)] = standing, inputs
    return sorted(found.values(), key=lambda r: (r.severity, -len(r.findings), r.package))


def kernel_key(kernel: dict[str, Any]) -> str:
    """What tells a package's kernels apart; registered names are those of several functions."""
    target: str = kernel["target"]
    return f"{kernel['function']} {target}" if " [" in target else target


def _names(kernel: dict[str, Any]) -> frozenset[str]:
    return frozenset((kernel["target"], *([kernel["function"]] if " [" in kernel["target"] else [])))


def _findings(row: dict[str, Any]) -> Iterable[tuple[Finding, str, int]]:
    """Each with what conforming devices may show of its output, and how many inputs that was measured at."""
    if "quantiser" in row:
        for dtype in row["dtypes"]:
            for data in dtype.get("findings", ()):
                yield Finding.from_json(data), "", 0
        return
    about = {
        (o["fmt"], o["output"], o.get("params", "init")): (o.get("standing", ""), o.get("inputs") or 0)
        for o in row.get("outputs", ())
    }
    for data in row.get("findings", ()):
        finding = Finding.from_json(data)
        yield finding, *about.get((finding.fmt, finding.output, finding.params_name), ("", 0))


def replay(name: str, row: dict[str, Any], finding: Finding) -> str:
    """A command that shows a finding again, in the package's environment."""
    if "needs" in row:  # on a CPU: with the lab and the package installed
        return finding.replay
    if "quantiser" in row:
        target, script = row["quantiser"]["target"], "tests/field/quantisers.py"
        command = f"python {script} {name} {target} {finding.fmt} {finding.params_name}"
    elif finding.replay:
        command = finding.replay
    else:
        kernel = row["kernel"]
        target = Package(name, "", "").target(kernel["target"])
        command = (
            f"precision-lab verify {shlex.quote(target)} --function {kernel['function']} "
            f"--format {finding.fmt} --device sm_90"
        )
    return f"tox -e field -- --in {name} {command}"


def on_cpu(rows: Iterable[dict[str, Any]]) -> Entries:
    """What `on_cpu.py` keeps, as entries of the packages that its kernels are of."""
    found: Entries = {}
    for row in rows:
        subject = row["subject"]
        name = "formula" if subject["name"].startswith("formula") else subject["packages"][0]
        package = subject["packages"][0]
        about = {"package": package, "version": row["versions"][package]}
        target = subject["name"] + (" compiled" if subject["compiled"] else "")
        kernel = {"target": target, "function": subject["function"], "of": subject["what"]}
        entry = found.setdefault(name.replace("-", "_"), {"package": about, "target": "", "kernels": []})
        entry["kernels"].append(
            {
                "kernel": kernel, "outputs": row["outputs"], "needs": subject["packages"],
                "findings": [_with_witness(defect) for defect in row["defects"]],
            }
        )  # fmt: skip
    return found


def _with_witness(defect: dict[str, Any]) -> dict[str, Any]:
    """With what earlier versions wrote into the message alone."""
    found = _WITNESS.search(defect["message"])
    if defect.get("witness") is not None or found is None:
        return defect
    x, bits, computed, computed_bits, low = found.groups()
    exact = float(low)
    rounded = float(get_format(defect["fmt"]).round(np.array([exact]))[0])
    ulps = defect["ulps"] if defect["code" if "code" in defect else "kind"] != "nonfinite" else math.nan
    value = float(computed)
    return {
        **defect,
        "witness": asdict(
            Witness(
                bits, float(x), float(x).hex(), value, value.hex(), computed_bits, low, rounded, float(ulps)
            )
        ),
    }


_WITNESS = re.compile(r" at x=(\S+) \(\S+, bits (\w+)\): computed (\S+) \((\w+)\), exact in \[(\S+), \S+\]")
