"""What the paper left open about numerical stability: three questions, a figure each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from precision_lab.report.figures import answered
from precision_lab.report.findings_accuracy import is_near_zero
from precision_lab.report.questions import CURE, OUTPUTS, QUESTIONS, Question, bits_kept, picture, questions
from precision_lab.report.rows import anchor
from precision_lab.report.section import Cell, Claim, Figure, Part, Section, Table, numeric
from precision_lab.report.series import Line, lines
from precision_lab.report.wording import written
from precision_lab.results import Results
from precision_lab.results.execution import EAGER

WORDS = (
    "The paper (arXiv 2411.13010, section 3.4) saw that eˣ − 1 cancels as x → 0⁻, and offered two cures: "
    "expm1, or an upper bound of −1e-6 on the exponential's argument. Each question is answered here by the "
    "inputs just below 0 (−1/16 ≤ x < 0), at the initial parameters."
)


def stability(results: Results) -> Section | None:
    """Naive, expm1, clamp."""
    found = questions(results)
    if not found:
        return None
    parts: list[Part] = [WORDS]
    found_lines = lines(results)
    several = len({q.function for q in found}) > 1
    for q in found:
        subject = f"{q.function}: " if several else ""
        cites = [(case, anchor(case)) for case in q.evidence]
        parts.append(
            Section(
                f"question-{q.function}-{q.implementation}",
                f"{subject}{q.asks}",
                [
                    Claim(q.severity, q.answer, (), q.command, cites),
                    *_pictured(q, found_lines),
                ],
            )
        )
    for function in dict.fromkeys(q.function for q in found):
        parts += ["Bits that the worst input just below 0 keeps:", _bits(results, function, found)]
    return Section("stability", "The paper's three questions", parts, nav="Three questions", opening=True)


def _pictured(q: Question, found: Sequence[Line]) -> list[Part]:
    """Its figure: correct bits of the worst input of each binade, towards 0."""
    drawn = answered(q, found)
    caption = f"Correct bits in {q.fmt} on the way to 0⁻: {q.implementation} and {CURE}"
    return [] if drawn is None else [replace(drawn, still=Figure(picture(q), caption))]


def _bits(results: Results, function: str, found: Sequence[Question]) -> Table:
    """Formats and outputs × formulations."""
    names = [q.implementation for q in found if q.function == function]
    rows = {
        (m.fmt, m.output, m.implementation): m
        for m in results.measurements
        if (m.function, m.execution, m.params_name, m.failure) == (function, EAGER.name, "init", None)
        and m.implementation in (*names, CURE)
        and is_near_zero(m)
    }
    columns = [name for name in (*QUESTIONS, CURE) if any(key[2] == name for key in rows)]
    lines = []
    for fmt, output in dict.fromkeys((key[0], key[1]) for key in rows if key[1] in OUTPUTS):
        cells: list[str | Cell] = [fmt, written(output)]
        for name in columns:
            m = rows.get((fmt, output, name))
            lost = m is not None and bits_kept(m) < 1
            cells.append("–" if m is None else Cell(f"{bits_kept(m):.1f}", 4 if lost else 0))
        precision = next(m.precision_bits for key, m in rows.items() if key[:2] == (fmt, output))
        lines.append([*cells, str(precision)])
    return Table(["format", "output", *numeric(*columns, "of")], lines, narrow=True)


__all__ = ["stability"]
