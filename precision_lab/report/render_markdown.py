"""A report's records as Markdown, as GitHub shows it: the digest of the page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise, starmap

from precision_lab.report.section import (
    MARKS,
    Cell,
    Claim,
    Code,
    Column,
    Document,
    Figure,
    Fold,
    Formula,
    Key,
    Part,
    Plot,
    Prose,
    Section,
    Table,
)
from precision_lab.system.text import markdown_safe

CITED = 3  # rows that a claim names; the page has them all


def text(document: Document, figures: Collection[str] | None = None) -> str:
    """The document in Markdown.

    Args:
        figures: names of the files in `figures/`; others are not shown. All are there by default.
    """
    parts: list[Part] = [document.lede] if document.lede else []
    if document.facts:
        counts = [value.replace(",", "").isdigit() for _, value in document.facts]
        columns = [
            Column(name, numeric=count) for (name, _), count in zip(document.facts, counts, strict=True)
        ]
        parts.append(Table(columns, [[value for _, value in document.facts]]))
    blocks = [f"# {_line(document.heading)}", *_walk([*parts, *document.sections], figures, depth=1)]
    return "".join(starmap(_spaced, pairwise(["", *blocks]))).lstrip() + "\n"


def _spaced(before: str, block: str) -> str:
    """A block below an empty line; claims that follow each other are one list."""
    return ("\n" if before.startswith("- ") and block.startswith("- ") else "\n\n") + block


def _walk(parts: Sequence[Part], figures: Collection[str] | None, depth: int) -> Iterator[str]:
    for part in parts:
        match part:
            case str():
                yield from [_line(part)] if part else []
            case Prose():
                yield _line(" ".join(filter(None, (part.text, part.digest))))
            case Table():
                yield from _table(part)
            case Figure(name, caption):
                if figures is None or name in figures:
                    yield f"![{_line(caption)}](figures/{name})"
            case Plot():
                yield from _walk(part.stills, figures, depth)
            case Key():
                pass
            case Claim():
                yield _claim(part)
            case Code(listing, language):
                yield "\n".join((f"```{language}", *listing.splitlines(), "```"))
            case Formula(latex=equation):
                yield "\n".join(("```math", *equation.splitlines(), "```"))
            case Fold(words, within):
                yield from _folded(words, list(_walk(within, figures, depth)))
            case Section():
                yield from _section(part, figures, depth)


def _section(section: Section, figures: Collection[str] | None, depth: int) -> list[str]:
    """The section; nothing where none of its tables, figures and claims stands in the digest."""
    blocks = [f"{'#' * (depth + 1)} {_line(section.title)}"]
    meant = stands = False
    for part in section.parts:
        made = list(_walk([part], figures, depth + 1))
        blocks += made
        if not isinstance(part, str | Prose | Key):
            meant, stands = True, stands or bool(made)
    return blocks if stands or not meant else []


def _folded(words: str, blocks: list[str]) -> list[str]:
    return [f"<details><summary>{_line(words)}</summary>", *blocks, "</details>"] if blocks else []


def _claim(claim: Claim) -> str:
    lines = [f"- {MARKS[claim.severity]} {_line(claim.sentence)}"]
    lines += [f"  - {_line(detail)}" for detail in claim.details]
    if claim.command:
        lines.append(f"  - {_code(claim.command)}")
    if claim.cites:
        named = ", ".join(_code(name) for name, _ in claim.cites[:CITED])
        more = f" and {len(claim.cites) - CITED} more" if len(claim.cites) > CITED else ""
        lines.append(f"  - Read from {named}{more}.")
    return "\n".join(lines)


def _table(table: Table) -> list[str]:
    kept = [column.digest for column in table.heads]
    rows = [_cells(cells, kept) for cells, row in table.lines() if row.digest]
    if not rows:
        return []
    columns = [column for column in table.heads if column.digest]
    lines = [_row([_in_row(_line(column.heading)) for column in columns])]
    lines.append("|" + "".join("--:|" if column.numeric else "--|" for column in columns))
    block = "\n".join([*lines, *map(_row, rows)])
    if not table.folded:
        return [block]
    return _folded(f"{table.folded} ({table.note})" if table.note else table.folded, [block])


def _cells(cells: Sequence[Cell], kept: Sequence[bool]) -> list[str]:
    """The texts of the columns that are kept; one that spans several stands in the first of them."""
    texts, at = [], 0
    for cell in cells:
        width = sum(kept[at : at + cell.span])
        at += cell.span
        if width:
            texts += [_cell(cell), *[""] * (width - 1)]
    return texts


def _cell(cell: Cell) -> str:
    shown = cell.digest or cell.text
    if not shown:
        return ""
    made = _in_row(_code(shown), code=True) if cell.code else _in_row(_line(shown))
    return f"{made} {_in_row(_line(cell.flags))}" if cell.flags else made


def _row(texts: Sequence[str]) -> str:
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)


def _line(words: str) -> str:
    """Words that open neither a tag nor a link, on one line."""
    return markdown_safe(" ".join(words.splitlines()))


def _in_row(words: str, *, code: bool = False) -> str:
    r"""Words that end no cell. A pipe after a backslash could be read either way, save in code."""
    words = words if code else re.sub(r"(?<=\\)\|", "&#124;", words)
    return words.replace("|", r"\|")


def _code(words: str) -> str:
    """Code, in more backticks than stand in it at a time."""
    words = _line(words)
    if "`" not in words:
        return f"`{words}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", words))))
    return f"{fence} {words} {fence}"


__all__ = ["text"]
