"""Tables for a terminal of any width: what does not fit beside stands below, and nothing is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from precision_lab.system.text import plain_message

GAP, NARROW = "  ", " "


@dataclass(frozen=True)
class Column:
    """A heading, of one or two lines, and to which side its cells are aligned."""

    heading: str
    right: bool = False


def numbers(*headings: str) -> list[Column]:
    return [Column(heading, right=True) for heading in headings]


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "",
    keys: int = 1, styles: Sequence[str | None] = (), notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """The table, in as many bands as the width asks for; each begins with the first `keys` columns.

    A cell is never cut: a row that is wider than the terminal by one cell alone runs on.

    Args:
        styles: of each row; none by default.
        notes: of each row, beside it where there is room and below it elsewhere.
    """
    cells = [[plain_message(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    if title:
        console.print(title, soft_wrap=True)
    wide = fits(columns, cells, console.width, GAP) or not fits(columns, cells, console.width)
    gap = GAP if wide else NARROW
    for k, band in enumerate(_bands(widths, keys, console.width, len(gap))):
        first = k == 0
        for heads in _headings([columns[k] for k in band]):
            _print_row(console, heads, [columns[k] for k in band], [widths[k] for k in band], "bold", gap)
        for number, row in enumerate(cells):
            style = styles[number] if styles else None
            note = plain_message(notes[number]) if notes and first else ""
            _print_row(console, [row[k] for k in band], [columns[k] for k in band], [widths[k] for k in band],
                       style, gap, note)  # fmt: skip


def fits(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, gap: str = NARROW) -> bool:
    """Whether a table needs no second band."""
    widths = _widths(columns, rows)
    return sum(widths) + len(gap) * (len(widths) - 1) <= width


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max([*map(cell_len, c.heading.split("\n")), *(cell_len(row[k]) for row in rows)])
        for k, c in enumerate(columns)
    ]


def _headings(columns: Sequence[Column]) -> list[list[str]]:
    """The lines of the headings, which stand on the table; none where there are no words."""
    lines = [c.heading.split("\n") for c in columns]
    height = max(map(len, lines)) if any(c.heading for c in columns) else 0
    padded = [[""] * (height - len(each)) + each for each in lines]
    return [[each[k] for each in padded] for k in range(height)]


def _bands(widths: Sequence[int], keys: int, width: int, gap: int) -> list[list[int]]:
    """Which columns stand beside one another."""
    first = list(range(keys))
    room = width - sum(widths[:keys]) - gap * (keys - 1)
    bands: list[list[int]] = []
    left = 0
    for k in range(keys, len(widths)):
        needed = widths[k] + gap
        if not bands or needed > left:
            bands.append([*first])
            left = room
        bands[-1].append(k)
        left -= needed
    return bands or [first]


def _print_row(
    console: Console, cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int],
    style: str | None, gap: str, note: str = "",
) -> None:  # fmt: skip
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        room = " " * (width - cell_len(cell))
        parts.append(room + cell if column.right else cell + room)
    line = gap.join(parts)
    beside = cell_len(line) + len(GAP) + cell_len(note) <= console.width
    line = f"{line}{GAP}{note}" if note and beside else line
    console.print(Text(line.rstrip(), style=style or ""), soft_wrap=True)
    if note and not beside:
        print_text(console, note, indent=4, style=style or "")


def print_facts(console: Console, facts: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A name and what belongs to it on each line; parts that have no room go on below, whole."""
    indent = max(cell_len(name) for name, _ in facts) + len(GAP)
    for name, parts in facts:
        line = name + " " * (indent - cell_len(name))
        begun = False
        for part in map(plain_message, parts):
            if begun and cell_len(line) + 3 + cell_len(part) > console.width:
                console.print(Text(line), soft_wrap=True)
                line, begun = " " * indent, False
            line += ("   " if begun else "") + part
            begun = True
        console.print(Text(line), soft_wrap=True)


def print_text(console: Console, text: Text | str, *, indent: int = 0, style: str = "") -> None:
    """Text broken between its words, every line indented and without spaces at its end."""
    whole = text if isinstance(text, Text) else Text(plain_message(text), style=style)
    for line in whole.wrap(console, max(console.width - indent, 1)):
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), soft_wrap=True)
