"""A summary of results for the terminal: what to use, what the paper asked, and what stayed open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from precision_lab.report.decision import Recommendation, recommendations
from precision_lab.report.findings import derive
from precision_lab.report.questions import questions
from precision_lab.report.tables import figure, level
from precision_lab.report.wording import counted
from precision_lab.results import Results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLOURS = {"fault": "red", "caution": "yellow", "good": "green", "note": "dim"}
LEVELS = ("green", "green", "yellow", "dark_orange", "red")
HELD = {"safe": "green", "outside roots": "green", "finite x": "yellow", "unsafe": "red"}
MOST_ROWS = 10  # of the decision, so that all of it fits 24 lines


def print_summary(results: Results, console: Console) -> None:
    """One screen, 24 lines of 80 columns: a line for each leading function and format, then answers."""
    from rich.table import Table
    from rich.text import Text

    found = recommendations(results)
    lead = results.profile.lead
    first = [c for c in found if c.function in lead] or list(found)
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("function", "format", "use", "forward", "gradients", "1 ulp"):
        numeric = name in ("forward", "gradients")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name != "1 ulp")
    for c in first[:MOST_ROWS]:
        table.add_row(c.function, c.fmt, c.label, _ulps(c.forward), _ulps(c.gradients), _held(c))
    if found:
        console.print(Text("What to use, and its worst error in ulps over all parameter sets", style="bold"))
        console.print(table)
        rest = [c for c in found if c not in first[:MOST_ROWS]]
        if rest:
            safe = sum(c.grade == "safe" for c in rest)
            console.print(
                Text(
                    f"{len(rest)} more: {safe} within 1 ulp, {len(rest) - safe} not; see the report",
                    style="dim",
                )
            )
    for q in questions(results):
        console.print(Text.assemble(f"{q.function} {q.implementation}: ", (q.answer, COLOURS[q.severity])))
    counts = {severity: 0 for severity in COLOURS}
    for finding in derive(results):
        counts[finding.severity] += 1
    total = sum(m.n_inputs for m in results.measurements if m.failure is None)
    undecided = sum(m.undecided for m in results.measurements if m.failure is None)
    failed = sum(m.failure is not None for m in results.measurements)
    words = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)
    console.print(
        f"{total:,} results checked, {undecided:,} undecided"
        + (f", {counted(failed, 'case')} without figures" if failed else "")
        + (f"; findings: {words}" if words else "")
    )


def _ulps(value: float) -> Text:
    from rich.text import Text

    return Text("–") if math.isnan(value) else Text(figure(value), LEVELS[level(value)])


def _held(c: Recommendation) -> Text:
    from rich.text import Text

    words = {"safe": "yes", "outside roots": "outside roots", "finite x": "finite x only"}
    return Text(words.get(c.grade, c.broken), HELD[c.grade])
