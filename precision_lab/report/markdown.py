"""Results → the same report in Markdown, with still figures beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from precision_lab.report.lowprecision import sections
from precision_lab.report.page import content, environment
from precision_lab.report.tables import REGION_TITLES, RegionTable
from precision_lab.results import Results
from precision_lab.system.text import markdown_safe

MARKS = {"fault": "❌", "caution": "⚠️", "good": "✅", "note": "➖"}


def markdown(results: Results, figures: Iterable[str]) -> str:
    """The report as GitHub renders it.

    Args:
        figures: names of the files `figures.draw` gave, to be found in `figures/`.
    """
    names = list(figures)
    templates = _environment()
    templates.filters["to_markdown"] = _without_tags
    text: str = templates.get_template("report.md").render(
        **content(results),
        marks=MARKS,
        bits_figures=[
            (n, n.removesuffix(".svg").split("-", 1)[1].replace("-", " in "))
            for n in names
            if n.startswith("bits-")
        ],
        map_figures=[n for n in names if n.startswith("map")],
        time_figures=[n for n in names if n.startswith("time-")],
        regions_of=_regions,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def lowprecision_markdown(data: Mapping[str, Any], title: str) -> str:
    """The sections on low precision alone; their figures are to be found in `figures/`."""
    template = _environment().get_template("lowprecision.md")
    text: str = template.render(title=title, sections=sections(data))
    return re.sub(r"\n{3,}", "\n\n", text)


def _environment() -> Any:
    """Templates whose every expression is safe in Markdown: names and messages are a kernel's."""
    return environment(finalize=lambda value: markdown_safe(value) if isinstance(value, str) else value)


def _regions(table: RegionTable) -> list[str]:
    return [REGION_TITLES[name] for name in table.regions]


def _without_tags(text: str) -> str:
    """The page's method section, its tables as Markdown ones and its other tags dropped."""

    def table(match: re.Match[str]) -> str:
        rows = [
            [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
            for row in re.findall(r"<tr>(.*?)</tr>", match.group(0), re.S)
        ]
        if "<th" not in match.group(0):
            rows.insert(0, [""] * len(rows[0]))
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|" + "--|" * len(rows[0]), *lines[1:]])

    text = re.sub(r"<table>.*?</table>", table, text, flags=re.S)
    text = re.sub(r"<summary>(.*?)</summary>", r"\n**\1**\n\n", text)
    text = re.sub(r"</?i>", "*", text)
    return html.unescape(re.sub(r"</?(p|div|details)[^>]*>", "\n", text))
