"""A short summary of results for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from precision_lab.report.findings import TOPICS, derive
from precision_lab.report.rows import label
from precision_lab.report.tables import figure, level
from precision_lab.report.wording import by_key, worst_outside_roots
from precision_lab.results import Measurement, Results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLOURS = {"fault": "red", "caution": "yellow", "good": "green", "note": "dim"}
LEVELS = ("green", "green", "yellow", "dark_orange", "red")


def print_summary(results: Results, console: Console) -> None:
    """Findings about the lab's functions, then the worst error of each eager implementation by format."""
    from rich.table import Table
    from rich.text import Text

    topic, lead = "", results.profile.lead
    for finding in derive(results):
        subject = finding.sentence.replace(",", " ").replace(":", " ").split(" ", 1)[0]
        if finding.topic in ("breaks", "nonfinite", "reductions") and subject not in lead:
            continue
        if finding.topic != topic:
            topic = finding.topic
            console.print(Text(f"\n{TOPICS[topic]}", style="bold"))
        console.print(Text.assemble((f"  {finding.severity:8}", COLOURS[finding.severity]), finding.sentence))
    sound = [m for m in results.measurements if m.failure is None and m.execution in ("eager", "module")]
    formats = list(dict.fromkeys(m.fmt for m in sound))
    table = Table(
        title="\nLargest error outside the roots, in ulps, over all outputs and parameter sets", box=None
    )
    table.title_justify = "left"
    for name in ("function", "implementation", *formats):
        table.add_column(name, justify="right" if name in formats else "left")
    for (function, _, _), rows in by_key(sound, "function", "implementation", "execution").items():
        cells = [_worst([m for m in rows if m.fmt == fmt]) for fmt in formats]
        table.add_row(function, label(rows[0]), *cells)
    if sound:
        console.print(table)
        console.print(Text("± wrong signs, ∞ NaN or infinity in the wrong place", style="dim"))


def _worst(rows: list[Measurement]) -> Text:
    from rich.text import Text

    if not rows:
        return Text()
    worst = max(map(worst_outside_roots, rows))
    flags = ("±" if any(m.wrong_sign for m in rows) else "") + (
        "∞" if any(m.nonfinite_mismatch for m in rows) else ""
    )
    return Text.assemble((figure(worst), LEVELS[level(worst)]), f" {flags}" if flags else "")
