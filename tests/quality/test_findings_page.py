"""The findings of the field as bug reports: each has a cause and a reproduction, the page is of today's data.

A reproduction that runs on a CPU is run here; of the others what they printed on an emulated GPU is kept.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from mpmath import mp

FIELD = Path(__file__).parents[1] / "field"
sys.path.append(str(FIELD))

import findings_page
import reproductions
from bug_reports import Report, on_cpu
from findings_page import Issue, cpu_notes, issues, load, page, slug
from package import Note, packages

from precision_lab.results import Finding, Severity

FOUND = load()
ISSUES = issues(FOUND)
KEPT: dict[str, Any] = json.loads((findings_page.FIELD / reproductions.KEPT).read_text(encoding="utf-8"))
TEXT = findings_page.PAGE.read_text(encoding="utf-8")
ON_CPU = [issue for issue in ISSUES if not issue.worst.target]


def named(issue: Issue) -> str:
    return slug(issue.heading)


def test_the_page_is_written_from_the_committed_results() -> None:
    assert page(FOUND, KEPT) == TEXT, "python tests/field/findings_page.py writes it anew"


def test_every_finding_that_is_more_than_a_note_has_a_cause() -> None:
    lost = [(r.package, r.title) for r in FOUND if r.note is None and r.severity < Severity.NOTE]
    assert not lost, "a [[notes]] in tests/field/published or tests/field/cpu is missing"


def test_no_cause_is_without_a_finding() -> None:
    met = {id(note) for note in (r.note for r in FOUND)}
    told = {(r.name, r.note.title) for r in FOUND if r.note is not None}
    for package in [*packages(), *cpu_notes()]:
        for note in package.notes:
            known = id(note) in met or (package.name, note.title) in told
            assert known or note.by_design, (package.name, note)


def test_reports_are_complete_and_stand_alone() -> None:
    """A cause, a patch in words, and fifteen lines of Python that ask nothing of the lab."""
    for issue in ISSUES:
        note, told = issue.worst.note, issue.heading
        assert note is not None and note.cause, told
        assert any(part.note is not None and part.note.suggestion for part in issue.parts), told
        code = reproductions.reproduction(issue.worst)
        assert 0 < len(code.splitlines()) <= 15, told
        assert "$" not in code, told
        tree = ast.parse(code)
        compile(tree, "reproduction.py", "exec")
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
        assert not any(name.startswith(("precision_lab", "tests")) for name in modules), told


def test_what_reproductions_printed_shows_the_findings() -> None:
    """Of what they are today; machine code needs a GPU, which nobody says there was."""
    for issue in ISSUES:
        report, told = issue.worst, issue.heading
        if report.machine_code:
            assert reproductions.key(report) not in KEPT, told
            continue
        ran = KEPT.get(reproductions.key(report))
        assert ran is not None, f"python tests/field/reproductions.py runs it: {told}"
        assert ran["code"] == reproductions.reproduction(report), (
            f"python tests/field/reproductions.py: {told}"
        )
        assert reproductions.shows(report, ran["printed"]), told


def test_what_reproductions_expect_is_the_certified_exact_value() -> None:
    """mpmath's figure, of a formula written apart from the oracle's, against the oracle's enclosure."""
    compared = 0
    for issue in ISSUES:
        report = issue.worst
        note, witness = report.note, report.told.witness
        if note is None or not note.call or witness is None or report.machine_code:
            continue
        found = re.search(r" expected (\S+)$", KEPT[reproductions.key(report)]["printed"])
        assert found is not None, issue.heading
        exact = pytest.approx(float(witness.exact), rel=1e-6, abs=0, nan_ok=True)
        assert float(found[1]) == exact, issue.heading
        compared += 1
    assert compared > 20


@pytest.mark.parametrize(
    "issue",
    [
        pytest.param(i, marks=[pytest.mark.slow] if "compile(" in reproductions.reproduction(i.worst) else [])
        for i in ON_CPU
    ],
    ids=named,
)
def test_a_reproduction_for_a_cpu_reproduces_it(issue: Issue, capsys: pytest.CaptureFixture[str]) -> None:
    report = issue.worst
    code = reproductions.reproduction(report)
    needed = [
        name for name in ("transformers", "mlx_lm", "torch") if re.search(rf"\b(import|from) {name}\b", code)
    ]
    if absent := [name for name in needed if find_spec(name) is None]:
        pytest.skip(f"{absent[0]} is not installed")
    with mp.workdps(mp.dps):
        exec(compile(code, "reproduction.py", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert reproductions.shows(report, printed), printed


def test_a_reproduction_that_shows_nothing_is_told_from_one_that_does() -> None:
    report = next(i.worst for i in ON_CPU if i.worst.note is not None and i.worst.note.call)
    witness = report.told.witness
    assert witness is not None
    assert reproductions.shows(report, f"computed {witness.computed!r} expected 1.0")
    assert not reproductions.shows(report, f"computed {witness.rounded!r} expected {witness.rounded!r}")
    assert not reproductions.shows(report, "")


def test_counts_of_inputs_in_causes_are_those_that_were_measured() -> None:
    for issue in ISSUES:
        for report in issue.parts:
            note = report.note
            assert note is not None
            counts = {f.count for f in report.findings}
            for text in (note.title, note.cause, note.suggestion):
                for number in re.findall(r"\b(\d[\d,]*) (?:finite )?inputs\b", text):
                    n = int(number.replace(",", ""))
                    assert {n, n + 1, n + 2} & counts, (note.title, n, sorted(counts))


def test_links_lead_somewhere() -> None:
    anchors = {slug(line[3:]) for line in TEXT.splitlines() if line.startswith("## ")}
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    inside = [link[1:] for link in links if link.startswith("#")]
    assert len(inside) == len(ISSUES) and set(inside) <= anchors
    assert len(anchors) == sum(line.startswith("## ") for line in TEXT.splitlines()), "two share one"
    for link in {link for link in links if not link.startswith("#")}:
        assert (findings_page.PAGE.parent / link.partition("#")[0]).is_file(), link
    for name in ("README.md", "cpu.md"):
        assert "(../../docs/field-findings.md)" in (findings_page.FIELD / name).read_text(encoding="utf-8")


def test_a_witness_is_read_from_the_message_of_an_earlier_version() -> None:
    message = (
        "error 244.9 ulps exceeds bound 1 in far_tail at x=-90.5 (-0x1.6a00000000000p+6, bits 0xc2b5): "
        "computed -0.0 (0x8000), exact in [-4.497777493682965491727404E-38, -4.497777493682965491727402E-38]"
    )
    defect = {
        "kind": "inaccurate", "fmt": "bf16", "output": "forward", "region": "far_tail", "ulps": 244.9,
        "count": 6, "function": "silu", "implementation": "silu", "params_name": "init", "message": message,
        "replay": "",
    }  # fmt: skip
    subject = {"name": "silu", "function": "silu", "what": "silu", "packages": ["torch"], "compiled": False}
    row = {"subject": subject, "versions": {"torch": "2"}, "outputs": [], "defects": [defect]}
    kernel = on_cpu([row])["torch"]["kernels"][0]
    witness = Finding.from_json(kernel["findings"][0]).witness
    assert witness is not None
    assert (witness.bits, witness.x, witness.computed_bits) == ("0xc2b5", -90.5, "0x8000")
    assert witness.rounded == pytest.approx(-4.4999e-38, rel=1e-4)


def test_a_reproduction_is_made_of_the_call_and_the_witness() -> None:
    note = Note("t", "c", uses="from p import f", call="f(x, b)")
    wanted = ("geglu_tanh", "grad_x")
    report = next(i.worst for i in ISSUES if (i.worst.told.function, i.worst.told.output) == wanted)
    made = Report("p", "1", "p", note, report.findings, target="sm_90")
    code = reproductions.reproduction(made)
    assert "from p import f" in code and "b = torch.full_like(x, 1.5)" in code
    assert "requires_grad=True" in code and "torch.autograd.grad(y, x," in code and "(1, 0)" in code
