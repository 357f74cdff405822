"""Findings: sentences, each linked to the rows it was read from."""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.report.findings import TOPICS, derive
from precision_lab.report.rows import anchor
from precision_lab.report.section import MARKS, Claim, Fold, Part, Prose, Section
from precision_lab.report.wording import Finding
from precision_lab.results import Results

_BY_FUNCTION = ("safety", "breaks", "nonfinite", "compiled", "reductions", "fp8")
OPENED = ("safety", "expm1", "eps")  # topics whose findings are unfolded from the start


def findings(results: Results) -> Section | None:
    """What the numbers say, topic by topic.

    Those about the profile's leading functions are read first; the rest is folded behind them.
    """
    found = derive(results)
    lead = results.profile.lead
    topics: list[Part] = []
    for topic, question in TOPICS.items():
        mine = [f for f in found if f.topic == topic]
        if mine:
            first = [f for f in mine if _leads(f, lead)] or mine
            rest = [f for f in mine if f not in first]
            folded = Fold(f"{len(rest)} more about other functions", [*map(_claim, rest)])
            topics.append(Section(f"topic-{topic}", question, [*map(_claim, first), folded]))
    if not topics:
        return None
    words = Prose(
        page="Each sentence is computed from the measured rows linked under it; the command shows its worst "
        "input again.",
        digest="Each sentence is computed from the measured rows named under it, which `report.html` shows; "
        "the command shows the worst input again. "
        + ", ".join(f"{mark} {severity}" for severity, mark in MARKS.items())
        + ".",
    )
    about = "what the numbers say, each sentence with the rows it was read from"
    return Section("findings", "Findings", [words, *topics], about=about)


def _leads(finding: Finding, lead: Sequence[str]) -> bool:
    subject = finding.sentence.replace(",", " ").replace(":", " ").split(" ", 1)[0]
    return finding.topic not in _BY_FUNCTION or subject in lead


def _claim(f: Finding) -> Claim:
    cites = [(case, anchor(case)) for case in f.evidence]
    return Claim(f.severity, f.sentence, f.details, f.replay, cites, f.topic in OPENED)


__all__ = ["findings"]
