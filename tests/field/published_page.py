"""The page of published kernels, as their maintainers read it: bug reports first, the worst of them first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bug_reports import Entries, Report, kernel_key, reports
from package import Package, packages

from precision_lab.results import Severity

HEAD = """\
# The field, measured

Published Triton kernels for activations, gated units and quantisation, as they are, each package in an
environment of its own, compiled for sm_90 and executed by their PTX: every bf16 and fp16 input, forward
and every gradient, every configuration of an autotuner, and in bf16 the engineering properties, second
operands of their own among them, against certified exact values. Of torch 2.14.1 and Transformer Engine it
is CUDA kernels out of their wheels, which hold machine code for sm_90 and no PTX: that is executed as it is.
`tox -e field` measures all of it anew; [what runs on a CPU](cpu.md) has a page of its own, and what goes to
maintainers is [written as bug reports](../../docs/field-findings.md).

A **defect** is an error above {bound:g} ulp, a wrong sign, a NaN or infinity in the wrong place, or a
property of a sound kernel that does not hold; of a quantiser, a scale that is not what its rule gives, or a
code that is not the nearest one. Reports are ordered by severity. *Critical*: {critical}. *Major*:
{major}. *Minor*: {minor}. Approximate instructions (`ex2.approx` and the like) are taken to be correctly
rounded, and each report says whether a result that NVIDIA's manual allows changes it. Where a kernel is
meant to repeat what another implementation does, it stands under [by design](#by-design).

A replay takes the root of this repository, and nothing installed but tox.

"""
FORMATS = ("bf16", "fp16")


def page(entries: Entries) -> str:
    known = packages()
    found = reports(entries, known)
    defects = [r for r in found if not r.by_design]
    words = {s.word: s.sentence for s in Severity}
    intro = HEAD.format(bound=1.0, critical=words["critical"], major=words["major"], minor=words["minor"])
    many = len({r.package for r in defects})
    counts = ", ".join(f"{sum(r.severity is s for r in defects)} {s.word}" for s in Severity)
    lines = [intro, *_packages(entries, found), *_glance(entries, found), "## Bug reports", ""]
    lines += [f"{len(defects)}, of {many} packages, the worst first: {counts}.", ""]
    for number, report in enumerate(defects, 1):
        lines += _report(number, report)
    lines += _by_design([r for r in found if r.by_design])
    lines += [*_clean(entries), *_quantisers(entries), *_absent(entries, known)]
    return "\n".join(lines).rstrip() + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['package']['package']} {entry['package']['version']}".strip()


def _packages(entries: Entries, found: Sequence[Report]) -> list[str]:
    rows = []
    for name, entry in entries.items():
        own = [r for r in found if r.name == name]
        defects = [r for r in own if not r.by_design]
        ran = [str(len(entry.get(kind, ())) or "–") for kind in ("kernels", "quantisers")]
        severities = [str(sum(r.severity is s for r in defects) or "–") for s in Severity]
        why = (
            "" if any(entry.get(kind) for kind in ("kernels", "quantisers")) else "[why none](#not-measured)"
        )
        rows.append((_name(entry), *ran, *severities, str(sum(bool(r.by_design) for r in own) or "–"), why))
    words = [s.word for s in Severity]
    columns = ["package", "kernels", "quantisers", *words, "by design", ""]
    return ["## Packages", "", *_table(columns, rows)]


def _glance(entries: Entries, found: Sequence[Report]) -> list[str]:
    defects = [r for r in found if not r.by_design]
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, report in enumerate(defects, 1):
        for target in report.kernels:
            numbers.setdefault((report.name, target), []).append(number)
    meant = {(r.name, target) for r in found if r.by_design for target in r.kernels}
    rows = []
    for name, entry in entries.items():
        for row in entry.get("kernels", ()):
            kernel, key = row["kernel"], (name, kernel_key(row["kernel"]))
            own = numbers.get(key, [])
            cells = [_cell(row, fmt, forward) for fmt in FORMATS for forward in (True, False)]
            links = [f"[{number}](#report-{number})" for number in own]
            told = ", ".join([*links, *(["by design"] if key in meant else [])])
            told = told or {"pass": "–", "inconclusive": "undecided"}.get(
                row.get("outcome", ""), "not measured"
            )
            line = (_name(entry), f"`{kernel['of']}`", kernel["function"], *cells, told)
            rows.append((min(own, default=len(defects) + 1), line))
    columns = [f"{fmt} {part}" for fmt in FORMATS for part in ("forward", "gradients")]
    return [
        "## At a glance", "",
        "Largest error in ulps; **±** wrong signs, **∞** a NaN or infinity in the "
        "wrong place; the worst first.", "",
        *_table(["package", "kernel", "function", *columns, "reports"], [line for _, line in sorted(rows)]),
    ]  # fmt: skip


def _cell(row: dict[str, Any], fmt: str, forward: bool) -> str:
    own = [o for o in row.get("outputs", ()) if o["fmt"] == fmt and (o["output"] == "forward") == forward]
    ran = [o for o in own if o["failure"] is None]
    if not ran:
        return "not examined" if own else ""
    marks = "±" * any(o["wrong_sign"] for o in ran) + "∞" * any(o["nonfinite"] for o in ran)
    return f"{_ulps(max(float(o['max_ulp']) for o in ran))} {marks}".strip()


def _ulps(value: float) -> str:
    if not value < 1e4:
        return f"2^{math.log2(value):.0f}" if math.isfinite(value) else "–"
    return f"{value:.4g}"


def _report(number: int, report: Report) -> list[str]:
    worst, count = report.worst, len(report.findings)
    kernels = ", ".join(f"`{of}`" for of in dict.fromkeys(report.kernels.values()))
    where = ", ".join(sorted({f"{f.fmt} {f.output}".strip() for f in report.findings}))
    cause = "not looked into." if report.note is None else report.note.cause
    suggestion = report.note.suggestion if report.note is not None else ""
    devices = report.standings.get(id(worst), "")
    return [
        f'### <a id="report-{number}"></a>{number}. {report.title}', "",
        f"**{report.severity.word}** · {report.package} {report.version} · {kernels}", "",
        f"{count} {'finding' if count == 1 else 'findings'}: {where}.", "",
        f"- **Witness**: {_safe(worst.message)}",
        f"- **Cause**: {cause}",
        f"- **Suggestion**: {suggestion or worst.next_step}",
        *([f"- **Devices**: {_safe(devices)}."] if devices else []),
        f"- **Replay**: `{report.replays[id(worst)]}`", "",
    ]  # fmt: skip


def _by_design(found: Sequence[Report]) -> list[str]:
    lines = ["## By design", "", "Found as above, and meant so." if found else "Nothing.", ""]
    for report in found:
        cause = report.note.cause if report.note is not None else ""
        lines.append(
            f"- **{report.title}** ({report.package} {report.version}: {', '.join(report.kernels)}). {cause} "
            f"{report.by_design} Replay: `{report.replays[id(report.worst)]}`"
        )
    return [*lines, ""]


def _safe(text: str) -> str:
    """Without its replay, and as Markdown shows it."""
    return text.split(" Replay: ")[0].replace("|", "\\|").replace("<", "&lt;")


def _clean(entries: Entries) -> list[str]:
    names = [
        f"- `{row['kernel']['of']}` ({row['kernel']['function']}), {_name(entry)}"
        for entry in entries.values() for row in entry.get("kernels", ()) if row.get("outcome") == "pass"
    ]  # fmt: skip
    said = "No defect in any format, output or property." if names else "None."
    return ["## Clean kernels", "", said, "", *names, ""]


def _quantisers(entries: Entries) -> list[str]:
    rows = []
    for entry in entries.values():
        for row in entry.get("quantisers", ()):
            q = row["quantiser"]
            block = "×".join("all" if n == 0 else str(n) for n in q["block"])
            for found in row["dtypes"]:
                about = (_name(entry), f"`{q['of']}`", q["format"], block, q["scale"], found["dtype"])
                rows.append((*about, *_quantised(found)))
    if not rows:
        return []
    columns = ["package", "kernel", "codes", "block", "rule of the scale", "dtype", "scales", "codes off by"]
    return [
        "## Quantisers", "",
        "Of finite blocks: how far scales are off their rule, in ulps of FP32 or, of powers of two, in "
        "exponents; and codes off the exact quotient, in steps, of which 0.5 is correctly rounded.", "",
        *_table([*columns, "a NaN", "an infinity"], rows),
    ]  # fmt: skip


def _quantised(found: dict[str, Any]) -> tuple[str, ...]:
    if "error" in found:
        return (f"did not run: {_safe(found['error'])}", "", "", "")
    cases = found["cases"].values()
    worst = [_ulps(max(float(c[key]) for c in cases)) for key in ("scale_ulps", "code_steps")]
    return (*worst, found["special"].get("nan", ""), found["special"].get("infinite", ""))


def _absent(entries: Entries, known: Iterable[Package]) -> list[str]:
    lines = [f"- {_name(entry)}: {_safe(entry['error'])}" for entry in entries.values() if "error" in entry]
    lines += [
        f"- {_name(entry)}: `{row['kernel']['of']}`: {_safe(row['error'])}"
        for entry in entries.values() for row in entry.get("kernels", ()) if "error" in row
    ]  # fmt: skip
    for package in known:
        lines += [f"- {package.package}: `{one.of}`: {one.reason}" for one in package.unmeasured]
    return ["## Not measured", "", *lines, ""]
