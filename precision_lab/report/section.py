"""What a report is made of: records over which one renderer for the page and one for Markdown walk.

The page has everything, and Markdown is its digest: what is left out there says so by `digest=False`. A
string among the parts is a paragraph; in it `code`, *emphasis* and **strong** are marked as in Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# How a claim is marked in Markdown, by its severity.
MARKS = {"fault": "❌", "caution": "⚠️", "good": "✅", "note": "➖"}


@dataclass(frozen=True)
class Prose:
    """A paragraph that ends differently in each medium."""

    text: str = ""
    page: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned to the right."""

    title: str
    unit: str = ""
    numeric: bool = False
    digest: bool = True

    @property
    def heading(self) -> str:
        """The title, with the unit of what stands under it."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Cell:
    """One figure or word.

    Attributes:
        level: 0 (correctly rounded) to 4 (no digit left); the page colours it.
        flags: "±" for wrong signs, "∞" for NaN or infinity in the wrong place.
        title: what the page says when it is pointed at.
        link: the anchor it leads to on the page.
        span: columns it fills.
        digest: a shorter text for Markdown.
    """

    text: str
    level: int = 0
    flags: str = ""
    title: str = ""
    link: str = ""
    code: bool = False
    span: int = 1
    digest: str = ""


@dataclass(frozen=True)
class Row:
    """Cells, and the anchor by which a claim leads to them."""

    cells: Sequence[str | Cell]
    anchor: str = ""
    digest: bool = True


@dataclass(frozen=True)
class Table:
    """Rows under columns; a string is a column of words, or a cell, and a sequence of cells is a row.

    Attributes:
        folded: the words under which it is folded away; "" leaves it open.
        note: what stands beside them in a lighter tone.
        split: the noun in which rows are counted where the page has one folded table for each value of the
            first column; "" leaves them together.
        narrow: only a few short columns.

    Raises:
        ValueError: a row fills other than all columns.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Row | Sequence[str | Cell]]
    folded: str = ""
    note: str = ""
    split: str = ""
    narrow: bool = False

    def __post_init__(self) -> None:
        for cells, _ in self.lines():
            if (filled := sum(cell.span for cell in cells)) != len(self.columns):
                raise ValueError(f"a row fills {filled} of {len(self.columns)} columns: {cells}")

    @property
    def heads(self) -> list[Column]:
        return [Column(c) if isinstance(c, str) else c for c in self.columns]

    @property
    def headings(self) -> list[str]:
        return [column.heading for column in self.heads]

    def lines(self) -> Iterator[tuple[list[Cell], Row]]:
        """Each row's cells, and the row."""
        for line in self.rows:
            row = line if isinstance(line, Row) else Row(line)
            yield [Cell(cell) if isinstance(cell, str) else cell for cell in row.cells], row


@dataclass(frozen=True)
class Figure:
    """A still figure's file name and what it shows."""

    name: str
    caption: str


@dataclass(frozen=True)
class Control:
    """A choice above a plot; the page's script fills one without (value, words) of its own."""

    id: str
    label: str
    options: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Plot:
    """A figure that the page's script draws in `places`, by their ids; Markdown has the stills."""

    controls: Sequence[Control]
    places: Sequence[str]
    stills: Sequence[Figure]
    legend: str = ""


@dataclass(frozen=True)
class Key:
    """What the colours of cells mean, as (level, words); Markdown has no colours."""

    levels: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Claim:
    """A sentence of a severity in `MARKS`, what it rests on, and how to see its worst input again.

    Attributes:
        details: one line each, with figures.
        command: a line for a terminal.
        cites: (name, anchor) of the rows it was read from.
        opened: unfolded on the page from the start.
    """

    severity: str
    sentence: str
    details: Sequence[str] = ()
    command: str = ""
    cites: Sequence[tuple[str, str]] = ()
    opened: bool = False


@dataclass(frozen=True)
class Formula:
    """An equation: the page shows `text`, Markdown sets `latex`."""

    text: str
    latex: str


@dataclass(frozen=True)
class Code:
    """A listing."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Fold:
    """Parts that are folded away under a line of words; left out where nothing is in them."""

    words: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; one among the parts is a subsection.

    Attributes:
        nav: a shorter title for the page's list of sections.
    """

    anchor: str
    title: str
    parts: Sequence[Part]
    nav: str = ""


Part = str | Prose | Table | Figure | Plot | Key | Claim | Code | Formula | Fold | Section


@dataclass(frozen=True)
class Document:
    """A whole report: what it asks, the facts in short, its sections, and the file it was made from."""

    title: str
    heading: str
    sections: Sequence[Section]
    source: str
    lede: Prose | None = None
    facts: Sequence[tuple[str, str]] = ()


def numeric(*titles: str, unit: str = "", digest: bool = True) -> list[Column]:
    """Columns of numbers, all of one unit."""
    return [Column(title, unit, numeric=True, digest=digest) for title in titles]
