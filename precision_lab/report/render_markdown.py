"""A report's records as Markdown, as GitHub shows it: the opening in short, and all of it in files beside it.

A section's file is `details/ANCHOR.md`. One too long to be read has its tables in several, and a list of them
in the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, starmap

from precision_lab.report.section import (
    DETAILS,
    MARKS,
    Cell,
    Choice,
    Claim,
    Code,
    Column,
    Document,
    Drawn,
    Figure,
    Fold,
    Formula,
    Key,
    Part,
    Prose,
    Row,
    Section,
    Table,
)
from precision_lab.system.text import markdown_safe

CITED = 3  # rows that a claim names; the page has them all
MOST_WORDS = 9_000  # of a file, where it can be divided


def files(document: Document, name: str, figures: Collection[str] | None = None) -> dict[str, str]:
    """The document in Markdown: the text of the report itself, and of each file that it leads to.

    Args:
        name: of the report.
        figures: names of the files in `figures/`; others are not shown. All are there by default.
    """
    short, whole = _Walk(figures, "figures", short=True), _Walk(figures, "../figures", short=False)
    blocks = [f"# {_line(document.heading)}", *short.walk([document.lede] if document.lede else [], 1)]
    made: dict[str, str] = {}
    for section in document.opening:
        said = short.section(section, 1)
        blocks += said
        if said != whole.section(section, 1):
            made |= _pages(section, whole, name)
            blocks.append(f"All of it: [{DETAILS}/{section.anchor}.md]({DETAILS}/{section.anchor}.md).")
    if document.facts:
        counts = [value.replace(",", "").isdigit() for _, value in document.facts]
        columns = [
            Column(name, numeric=count) for (name, _), count in zip(document.facts, counts, strict=True)
        ]
        facts = Table(columns, [[value for _, value in document.facts]])
        blocks += ["## What was measured", *short.walk([facts], 1)]
    if document.folded:
        blocks.append("## Everything else")
    for section in document.folded:
        made |= _pages(section, whole, name)
        about = f": {_line(section.line)}" if section.line else ""
        blocks.append(f"- [{_line(section.title)}]({DETAILS}/{section.anchor}.md){about}.")
    return {name: _joined(blocks), **made}


def _pages(section: Section, whole: _Walk, report: str) -> dict[str, str]:
    """The files of one section."""
    head = [f"# {_line(section.title)}", f"[The report](../{report})"]
    blocks = list(whole.walk(section.parts, 1))
    first = f"{DETAILS}/{section.anchor}.md"
    if _words(blocks) <= MOST_WORDS:
        return {first: _joined([*head, *blocks])}
    opening, pages = list(head), list[list[_Unit]]()
    for unit in _units(section.parts, whole):
        if not unit.title:
            opening += unit.blocks
        elif pages and _words(b for u in (*pages[-1], unit) for b in u.blocks) <= MOST_WORDS:
            pages[-1].append(unit)
        else:
            pages.append([unit])
    made = {}
    for number, units in enumerate(pages, 1):
        name = f"{section.anchor}-{number}.md"
        title = f"# {_line(section.title)}, {number} of {len(pages)}"
        back = f"[{_line(section.title)}]({section.anchor}.md) · [The report](../{report})"
        made[f"{DETAILS}/{name}"] = _joined([title, back, *(b for unit in units for b in unit.blocks)])
        opening += [f"- [{_line(unit.title)}]({name}#{slug(unit.title)})" for unit in units]
    return {first: _joined(opening), **made}


@dataclass(frozen=True)
class _Unit:
    """What stays in one file under a heading, or without one stays with what is before it."""

    title: str
    blocks: list[str]


def _units(parts: Sequence[Part], whole: _Walk) -> Iterator[_Unit]:
    for part in parts:
        blocks = list(whole.walk([part], 1))
        match part:
            case Section() | Fold() if _words(blocks) > MOST_WORDS:
                yield from _units(part.parts, whole)
            case Section():
                yield _Unit(part.title, blocks)
            case Fold(words, within):
                yield _Unit(words, [f"## {_line(words)}", *whole.walk(within, 2)])
            case Table() if part.split:
                for name, table in _grouped(part):
                    yield from _parted(name, table, whole)
            case Table() if part.folded:
                yield from _parted(part.folded, part, whole)
            case _:
                yield _Unit("", blocks)


def _parted(name: str, table: Table, whole: _Walk) -> Iterator[_Unit]:
    """A table under its name; one too long for a file in several."""
    plain = replace(table, folded="", note="")
    count = math.ceil(_words(whole.table(plain)) / MOST_WORDS)
    each = math.ceil(len(table.rows) / max(1, count))
    for number in range(count):
        title = name if count == 1 else f"{name}, part {number + 1} of {count}"
        rows = table.rows[number * each : (number + 1) * each]
        note = [_line(table.note)] if table.note else []
        yield _Unit(title, [f"## {_line(title)}", *note, *whole.table(replace(plain, rows=rows))])


def _grouped(table: Table) -> Iterator[tuple[str, Table]]:
    """A table for each value of the first column, without it."""
    groups: dict[str, list[Row]] = {}
    for (first, *cells), row in table.lines():
        groups.setdefault(first.text, []).append(Row(cells, row.anchor))
    for name, rows in groups.items():
        yield name, replace(table, columns=table.columns[1:], rows=rows, split="")


def slug(heading: str) -> str:
    """The fragment by which GitHub leads to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _words(blocks: Iterator[str] | Sequence[str]) -> int:
    return sum(len(block.split()) for block in blocks)


def _joined(blocks: Sequence[str]) -> str:
    return "".join(starmap(_spaced, pairwise(["", *blocks]))).lstrip() + "\n"


def _spaced(before: str, block: str) -> str:
    """A block below an empty line; items that follow each other are one list."""
    return ("\n" if before.startswith("- ") and block.startswith("- ") else "\n\n") + block


@dataclass(frozen=True)
class _Walk:
    """Over the records, for the report itself (`short`), where nothing folded stands, or a file beside it."""

    figures: Collection[str] | None
    folder: str
    short: bool

    def walk(self, parts: Sequence[Part], depth: int) -> Iterator[str]:
        for part in parts:
            match part:
                case str():
                    yield from [_line(part)] if part else []
                case Prose():
                    yield from self.walk([" ".join(filter(None, (part.text, part.digest)))], depth)
                case Table():
                    yield from self.table(part)
                case Figure(name, caption):
                    if self.figures is None or name in self.figures:
                        yield f"![{_line(caption)}]({self.folder}/{name})"
                case Choice(digest=instead):
                    yield from self.walk(instead, depth)
                case Drawn(still=Figure() as still):
                    yield from self.walk([still], depth)
                case Claim():
                    yield _claim(part)
                case Code(listing, language, words):
                    yield from [f"**{_line(words)}**"] if words else []
                    if not listing:
                        continue
                    fence = "`" * (1 + max([2, *map(len, re.findall("`+", listing))]))
                    yield "\n".join((f"{fence}{language}", *listing.splitlines(), fence))
                case Formula(latex=equation):
                    yield "\n".join(("```math", *equation.splitlines(), "```"))
                case Fold(words, within) if not self.short:
                    yield from _folded(words, list(self.walk(within, depth)))
                case Section():
                    yield from self.section(part, depth)
                case Key() | Drawn() | Fold():
                    pass

    def section(self, section: Section, depth: int) -> list[str]:
        """The section; nothing where none of its tables, figures and claims stands in the digest."""
        blocks = [f"{'#' * (depth + 1)} {_line(section.title)}"]
        meant = stands = False
        for part in section.parts:
            made = list(self.walk([part], depth + 1))
            blocks += made
            if not isinstance(part, str | Prose | Key):
                meant, stands = True, stands or bool(made)
        return blocks if stands or not meant else []

    def table(self, table: Table) -> list[str]:
        if self.short and table.folded:
            return []
        rows = [_cells(cells) for cells, row in table.lines() if row.digest or not self.short]
        if not rows:
            return []
        lines = [_row([_in_row(_line(column.heading)) for column in table.heads])]
        lines.append("|" + "".join("--:|" if column.numeric else "--|" for column in table.heads))
        block = "\n".join([*lines, *map(_row, rows)])
        if not table.folded:
            return [block]
        return _folded(f"{table.folded} ({table.note})" if table.note else table.folded, [block])


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


def _cells(cells: Sequence[Cell]) -> list[str]:
    """The texts of all columns; one that spans several stands in the first of them."""
    return [text for cell in cells for text in (_cell(cell), *[""] * (cell.span - 1))]


def _cell(cell: Cell) -> str:
    shown = cell.text
    made = _in_row(_code(shown), code=True) if cell.code and shown else _in_row(_line(shown))
    more = [cell.flags, f"({cell.note})" if cell.note else ""]
    first = " ".join([made, *(_in_row(_line(words)) for words in more if words)]) if shown else ""
    under = (_in_row(_line(f"{name}: {words}" if name else words)) for name, words in cell.lines)
    return "<br>".join(filter(None, (first, *under)))


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


__all__ = ["files", "slug"]
