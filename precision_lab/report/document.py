"""Results → the whole report, as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from precision_lab.report import render_html, render_markdown
from precision_lab.report.figures import draw
from precision_lab.report.figures_lowprecision import draw_lowprecision
from precision_lab.report.section import Document, Prose
from precision_lab.report.sections import SECTIONS
from precision_lab.results import Results

MOST_NAMES = 4  # of functions in a heading
LEDE = Prose(
    "Every implementation was run on the inputs of each number format and compared with the exact "
    "mathematical value, for the function and each of its gradients. Errors are in ulps: a correctly rounded "
    "result is off by at most 0.5.",
    digest="The page `report.html` and all figures in `report.json` come from the same run.",
)


def document(results: Results) -> Document:
    """The report on a study: findings first, every claim linked to the row it was read from."""
    found = (make(results) for make in SECTIONS)
    title, heading = _titles([*dict.fromkeys(m.function for m in results.measurements)])
    return Document(
        title,
        heading,
        [section for section in found if section is not None],
        "report.json",
        replace(LEDE, text=f"{LEDE.text} **The report is incomplete**: {results.lost}.")
        if results.lost
        else LEDE,
        _facts(results),
    )


def _titles(functions: Sequence[str]) -> tuple[str, str]:
    """Of the page, and the heading on it."""
    if not functions or {"xielu", "xiprelu"} & set(functions):
        title, subject = "Precision of xIELU and its relatives", "are xIELU, xIPReLU and their relatives"
    elif len(functions) == 1:
        title, subject = f"Precision of {functions[0]}", f"is {functions[0]}"
    else:
        *others, last = functions
        names = f"{', '.join(others)} and {last}"
        named = names if len(functions) <= MOST_NAMES else f"{len(functions)} activation functions"
        title, subject = f"Precision of {named}", f"are {named}"
    return title, f"How accurate {subject} in low precision?"


def readiness(data: Mapping[str, Any], title: str) -> Document:
    """The sections on low precision alone, of which the first is the opening."""
    sections = document(_of_lowprecision(data)).sections
    shown = [replace(section, opening=number == 0) for number, section in enumerate(sections)]
    return Document(title, title, shown, "readiness.json")


def _of_lowprecision(data: Mapping[str, Any]) -> Results:
    return Results({}, {}, (), (), (), {}, lowprecision=dict(data))


def _facts(results: Results) -> list[tuple[str, str]]:
    """Counts of what has figures, and what was measured where."""
    sound = [m for m in results.measurements if m.failure is None]
    return [
        ("Results checked", f"{sum(m.n_inputs for m in sound):,}"),
        ("Undecided", f"{sum(m.undecided for m in sound):,}"),
        ("Cases", f"{len(results.measurements):,}"),
        ("Without figures", f"{len(results.measurements) - len(sound):,}"),
        ("Functions", str(len({m.function for m in results.measurements}))),
        ("Formats", ", ".join(dict.fromkeys(m.fmt for m in results.measurements))),
        ("Processor", results.environment.get("cpu", "unknown")),
    ]


def figures(results: Results) -> dict[str, bytes]:
    """File name → contents, for all figures that the results allow."""
    return draw(results) | draw_lowprecision(results.lowprecision)


def html(results: Results, details: str = "", pictures: Mapping[str, bytes] | None = None) -> str:
    """The page, in one file.

    Args:
        details: the folder beside it in which Markdown files have the same.
        pictures: what `figures` gives, where that has been drawn.
    """
    return render_html.page(document(results), figures(results) if pictures is None else pictures, details)


def markdown(results: Results, figures: Iterable[str]) -> dict[str, str]:
    """The Markdown report, report.md, and the files that it leads to, by their names.

    Args:
        figures: names of the files that are to be found in `figures/`.
    """
    return render_markdown.files(document(results), "report.md", set(figures))


def readiness_html(
    data: Mapping[str, Any], title: str, pictures: Mapping[str, bytes], details: str = ""
) -> str:
    """The page on low precision alone, with its figures."""
    return render_html.page(readiness(data, title), pictures, details)


def readiness_markdown(data: Mapping[str, Any], title: str) -> dict[str, str]:
    """The Markdown on low precision alone, as files by their names; figures are to be found in `figures/`."""
    return render_markdown.files(readiness(data, title), "readiness.md")


__all__ = ["document", "figures", "html", "markdown", "readiness", "readiness_html", "readiness_markdown"]
