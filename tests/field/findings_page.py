"""docs/field-findings.md: what was found in published kernels, as bug reports that can be sent as they are.

python tests/field/findings_page.py             writes it from reports/field, measuring and running nothing
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reproductions
from bug_reports import Entries, Report, on_cpu, reports
from package import Package, packages
from published_page import _safe, _table, _ulps

from precision_lab.results import Finding, Severity

ROOT = Path(__file__).parents[2]
FIELD = ROOT / "reports" / "field"
CPU = Path(__file__).parent / "cpu"  # the judgements of what runs on a CPU
PAGE = ROOT / "docs" / "field-findings.md"
HEAD = """\
# Findings of the field, ready to send

What the lab found in published kernels, one report for each cause, the worst first: {count}.

Each can be pasted into the package's issue tracker as it is; its heading is the title. A reproduction is
Python that needs the package, torch and mpmath, and nothing of this project; what it printed when it was run
is written below it. All figures, and the kernels without a defect, are in [what was measured of GPU
kernels](../reports/field/README.md) and [on a CPU](../reports/field/cpu.md). What is
[meant so](../reports/field/README.md#by-design) has no report here.

An **ulp** is the distance between neighbouring numbers of the format at the exact result; a correctly rounded
result is within 0.5. Exact results are certified enclosures.

{severities}

`python tests/field/findings_page.py` writes this page from the committed results; causes and patches stand in
`tests/field/published` and `tests/field/cpu`.

"""
HOW = {
    "emulated": "The kernel's PTX for {target} was executed on a CPU; no GPU was used. Approximate "
    "instructions (ex2.approx and the like) count as correctly rounded",
    "machine code": "The machine code for sm_90 out of the wheel was executed on a CPU; no GPU was used. "
    "Approximate instructions count as correctly rounded",
    "cpu": "Measured on a CPU (Linux, x86-64); other processors may take other code paths",
}


@dataclass(frozen=True)
class Issue:
    """What goes upstream as one: reports of a package that share a title."""

    parts: tuple[Report, ...]

    @property
    def worst(self) -> Report:
        """The one that is told in full: the worst, if possible with a reproduction that can be run."""

        def order(report: Report) -> tuple[Severity, bool, bool]:
            note = report.note
            shown = note is not None and bool(note.call or note.reproduction)
            return report.severity, not shown, report.machine_code

        return min(self.parts, key=order)

    @property
    def severity(self) -> Severity:
        return self.worst.severity

    @property
    def package(self) -> str:
        return self.worst.package

    @property
    def title(self) -> str:
        return self.worst.title

    @property
    def heading(self) -> str:
        return f"{self.package}: {self.title}"


def cpu_notes() -> list[Package]:
    return packages(folder=CPU)


def load(field: Path = FIELD) -> list[Report]:
    """The reports of both kinds of measurements, what is meant so among them."""
    published: Entries = json.loads((field / "published.json").read_text(encoding="utf-8"))
    processor = on_cpu(json.loads((field / "cpu.json").read_text(encoding="utf-8")))
    known = packages()
    return [*reports(published, known), *_seen_by_hand(published, known), *reports(processor, cpu_notes())]


def _seen_by_hand(entries: Entries, known: list[Package]) -> list[Report]:
    """Of causes that no measured input met, and whose reproduction shows them."""
    found = []
    for package in known:
        for note in package.notes:
            if note.severity and note.reproduction and not note.kernel:
                about = entries[package.name]["package"]
                finding = Finding(
                    code=note.codes[0], fmt=note.formats[0], function="", implementation="", params_name="",
                    message="as the reproduction shows; no measured input meets it",
                )  # fmt: skip
                report = Report(about["package"], about["version"], package.name, note, [finding])
                report.target = "sm_90"
                found.append(report)
    return found


def issues(found: list[Report]) -> list[Issue]:
    """Defects that have a cause, the worst first."""
    groups: dict[tuple[str, str], list[Report]] = {}
    for report in found:
        if report.note is not None and not report.by_design and report.severity < Severity.NOTE:
            groups.setdefault((report.package, report.title), []).append(report)
    made = [Issue(tuple(group)) for group in groups.values()]
    return sorted(made, key=lambda i: (i.severity, -sum(len(r.findings) for r in i.parts), i.heading))


def page(found: list[Report], kept: dict[str, Any]) -> str:
    made = issues(found)
    counts = ", ".join(f"{n} {s.word}" for s in Severity if (n := sum(issue.severity is s for issue in made)))
    words = " ".join(
        f"*{s.word.capitalize()}*: {s.sentence}." for s in Severity if any(i.severity is s for i in made)
    )
    many = len({issue.package for issue in made})
    rows = [
        [i.severity.word, i.package, f"[{_cell(i.title)}](#{slug(i.heading)})", figure(i.worst)] for i in made
    ]
    lines = [
        HEAD.format(count=f"{len(made)} of {many} packages, {counts}", severities=words),
        *_table(["severity", "package", "what is wrong", "worst figure"], rows),
    ]  # fmt: skip
    for issue in made:
        lines += _issue(issue, kept)
    lines += ["## Found on a CPU, and no report", "", *_meant_on_a_cpu(found)]
    return "\n".join(lines).rstrip() + "\n"


def _meant_on_a_cpu(found: list[Report]) -> list[str]:
    meant: dict[tuple[str, str], str] = {}
    for report in found:
        if report.by_design and not report.target:
            meant.setdefault((report.package, report.title), report.by_design)
    return [f"- {package}: {title}. {why}" for (package, title), why in meant.items()]


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def figure(report: Report) -> str:
    """The worst finding in three words."""
    worst = report.told
    if worst.code == "nonfinite" and worst.count:
        inputs = report.inputs.get(id(worst))
        return f"{worst.count:,} of {inputs:,} inputs" if inputs else f"{worst.count:,} results"
    if worst.code in ("inaccurate", "flushes_subnormals", "wrong_sign") and math.isfinite(worst.ulps):
        return f"{_ulps(abs(worst.ulps))} {'steps' if worst.fmt and _blocks(worst) else 'ulps'}"
    return worst.code.replace("_", " ")


def _blocks(finding: Finding) -> bool:
    return finding.function.endswith(" by blocks")


def _issue(issue: Issue, kept: dict[str, Any]) -> list[str]:
    report = issue.worst
    note = report.note
    assert note is not None
    replay = report.replays.get(id(report.told))
    return [
        f"## {issue.heading}", "",
        f"*{issue.severity.word}* · {_measured(issue)}", "",
        *_seen(report), "",
        *_spread(issue),
        *_told("Cause", issue, "cause"),
        *_told("Suggested patch", issue, "suggestion"),
        f"**Not claimed.** {_not_claimed(issue)}", "",
        *_reproduced(report, kept),
        *([f"With the lab, from a checkout: `{replay}`", ""] if replay else []),
    ]  # fmt: skip


def _measured(issue: Issue) -> str:
    versions = dict.fromkeys(f"{r.package} {r.version or VERSION_OF_THE_LAB}".strip() for r in issue.parts)
    return "measured: " + ", ".join(versions)


VERSION_OF_THE_LAB = "2.13.0"


def _seen(report: Report) -> list[str]:
    """Observed and exact at the witness."""
    worst, witness = report.told, report.told.witness
    if witness is None or not witness.bits:
        message = _safe(worst.message)
        of = f" (`{report.of[id(worst)]}`)" if id(worst) in report.of else ""
        return [f"**Seen** with {worst.fmt}{of}: {message}"]
    computed = f"{_hex(witness.computed)}, " if math.isfinite(witness.computed) else ""
    error = f"; {_ulps(abs(witness.error_ulps))} ulps" if math.isfinite(witness.error_ulps) else ""
    return [
        f"**Observed** ({worst.fmt} {worst.output} of `{report.of[id(worst)]}`): {witness.computed!r} "
        f"({computed}bits {witness.computed_bits})  ",
        f"**Exact**: {_decimal(witness.exact)}, rounded {witness.rounded!r} "
        f"({_hex(witness.rounded)}){error}  ",
        f"**At** x = {witness.x!r} ({_hex(witness.x)}, bits {witness.bits})",
    ]  # fmt: skip


def _hex(value: float) -> str:
    """Without the zeros at the end of a significand."""
    return re.sub(r"\.?0*p", "p", value.hex()) if math.isfinite(value) else str(value)


def _decimal(text: str) -> str:
    """Ten of its digits."""
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)(?:[eE]([+-]?\d+))?", text)
    return f"{float(text):.10g}" if found and float(text) else text


def _spread(issue: Issue) -> list[str]:
    """How many inputs, for each kernel; of quantisers and properties, where it was seen."""
    rows: dict[tuple[str, str], dict[str, Seen]] = {}
    for report in issue.parts:
        for finding in report.findings:
            of = report.of.get(id(finding), report.name)
            where = f"{finding.fmt} {'' if _blocks(finding) else finding.output}".strip()
            key = (of, report.version)
            inputs = report.inputs.get(id(finding), 0)
            rows.setdefault(key, {}).setdefault(where, []).append((finding, inputs))
    several = len({version for _, version in rows}) > 1
    lines = [
        f"- `{of}`{f' ({version})' if several and version else ''}: {_counted(found)}"
        for (of, version), found in rows.items()
    ]
    return ["**Where.**", "", *lines, ""] if any(report.of for report in issue.parts) else []


KINDS = {
    "inaccurate": "above 1 ulp", "flushes_subnormals": "subnormal and lost",
    "nonfinite": "with a wrong NaN or infinity",
    "wrong_sign": "of the wrong sign", "depends_on_device": "within 1 ulp by the device's choice alone",
}  # fmt: skip


Seen = list[tuple[Finding, int]]  # of one kernel, format and output; with how many inputs were measured


def _counted(found: dict[str, Seen]) -> str:
    """Of each format and output, how many inputs of each kind, and the worst error; kinds may overlap."""
    told = []
    for where, seen in found.items():
        inputs = max(n for _, n in seen)
        if not inputs:
            what = dict.fromkeys(f.output or f.code.replace("_", " ") for f, _ in seen)
            told.append(f"{where} ({', '.join(what)})")
            continue
        worst = max((abs(f.ulps) for f, _ in seen if math.isfinite(f.ulps)), default=math.nan)
        many = [f"{f.count:,} {KINDS.get(f.code, f.code.replace('_', ' '))}" for f, _ in seen]
        most = f", at most {_ulps(worst)} ulps" if math.isfinite(worst) else ""
        told.append(f"{where}: of {inputs:,} inputs {', '.join(many)}{most}")
    return "; ".join(told)


def _told(word: str, issue: Issue, name: str) -> list[str]:
    """What the notes say, each once."""
    parts = sorted(issue.parts, key=lambda r: r is not issue.worst)
    texts = list(dict.fromkeys(getattr(r.note, name) for r in parts if getattr(r.note, name)))
    if len(texts) < 2:
        return [f"**{word}.** {texts[0] if texts else 'Not traced.'}", ""]
    return [f"**{word}.**", "", *(f"- {text}" for text in texts), ""]


def _not_claimed(issue: Issue) -> str:
    said = []
    for report in issue.parts:
        kind = "cpu" if not report.target else "machine code" if report.machine_code else "emulated"
        standing = report.standings.get(id(report.told), "")
        said.append(f"{HOW[kind].format(target=report.target)}.{_of_devices(standing)}")
        if report.note is not None and report.note.not_claimed:
            said.append(report.note.not_claimed)
    return " ".join(dict.fromkeys(said))


def _of_devices(standing: str) -> str:
    """What the manual's freedom changes, for people who do not know the lab's words."""
    word, _, how = standing.partition(": ")
    if word != REFUTED:
        return f" {_safe(standing)}." if standing else ""
    return f" With every result that NVIDIA's manual allows the kernel stays outside of 1 ulp ({_safe(how)})."


REFUTED = "refuted on every conforming device"


def _reproduced(report: Report, kept: dict[str, Any]) -> list[str]:
    code = reproductions.reproduction(report)
    if not code:
        return ["**Reproduction.** With the lab alone.", ""]
    ran = kept.get(reproductions.key(report))
    needs = " on a machine with a CUDA device" if report.target else ""
    lines = [f"**Reproduction**{needs}:", "", "```python", code, "```", ""]
    if report.machine_code:
        return [*lines, "It was not run, as there was no GPU; the figures above are the machine code's.", ""]
    if ran is None or ran["code"] != code:
        return [*lines, "It was not run.", ""]
    return [*lines, f"On {ran['on']} it printed:", "", "```text", *ran["printed"].splitlines(), "```", ""]


if __name__ == "__main__":
    stored = json.loads((FIELD / reproductions.KEPT).read_text(encoding="utf-8"))
    PAGE.write_text(page(load(), stored), encoding="utf-8")
