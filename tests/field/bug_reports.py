"""Findings of published kernels → bug reports, one for each cause."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from package import Note, Package

from precision_lab.results import Finding, Severity, ranked
from precision_lab.results.codes import CODES

Entries = dict[str, Any]


@dataclass
class Report:
    """One bug report: the findings that one cause explains.

    Attributes:
        names: of the kernels, in the package.
        standings: what conforming devices may show of a finding's output.
    """

    package: str
    version: str
    name: str
    note: Note | None
    findings: list[Finding] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    replays: dict[int, str] = field(default_factory=dict)
    standings: dict[int, str] = field(default_factory=dict)

    @property
    def worst(self) -> Finding:
        return ranked(self.findings)[0]

    @property
    def severity(self) -> Severity:
        return self.worst.severity

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
            for finding, standing in _findings(row):
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
                    ),
                )  # fmt: skip
                report.findings.append(finding)
                report.kernels[kernel_key(kernel)] = kernel["of"]
                report.replays[id(finding)] = replay(name, row, finding)
                report.standings[id(finding)] = standing
    return sorted(found.values(), key=lambda r: (r.severity, -len(r.findings), r.package))


def kernel_key(kernel: dict[str, Any]) -> str:
    """What tells a package's kernels apart; registered names are those of several functions."""
    target: str = kernel["target"]
    return f"{kernel['function']} {target}" if " [" in target else target


def _names(kernel: dict[str, Any]) -> frozenset[str]:
    return frozenset((kernel["target"], *([kernel["function"]] if " [" in kernel["target"] else [])))


def _findings(row: dict[str, Any]) -> Iterable[tuple[Finding, str]]:
    if "quantiser" in row:
        for dtype in row["dtypes"]:
            for data in dtype.get("findings", ()):
                yield Finding.from_json(data), ""
        return
    standings = {(o["fmt"], o["output"], o["params"]): o.get("standing", "") for o in row.get("outputs", ())}
    for data in row.get("findings", ()):
        finding = Finding.from_json(data)
        yield finding, standings.get((finding.fmt, finding.output, finding.params_name), "")


def replay(name: str, row: dict[str, Any], finding: Finding) -> str:
    """A command that shows a finding again, in the package's environment."""
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
