"""What a report is made of: records over which one renderer for the page and one for Markdown walk.

The opening is read first: sections that say so stand open on the page, and in short in the Markdown report,
where `digest=False` leaves rows out. All else is folded on the page, and whole in Markdown files
of its own. A string among the parts is a paragraph; in it `code`, *emphasis* and **strong** are marked as in
Markdown, and `code` is wherever words stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.report.svg import Drawing, Stroke

LONG_LINE = 100  # characters; what is longer is cut where a clause ends
DETAILS = "details"  # the folder of the Markdown files beside the main one
# How a claim is marked in Markdown, by its severity.
MARKS = {"fault": "❌", "caution": "⚠️", "good": "✅", "note": "➖"}


@dataclass(frozen=True)
class Prose:
    """A paragraph that ends differently on the page and in Markdown (`digest`)."""

    text: str = ""
    page: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned to the right."""

    title: str
    unit: str = ""
    numeric: bool = False

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
        note: words in small letters after the text.
        lines: what stands under the text, each on a line of its own, as (name, words).
    """

    text: str
    level: int = 0
    flags: str = ""
    title: str = ""
    link: str = ""
    code: bool = False
    span: int = 1
    note: str = ""
    lines: Sequence[tuple[str, str]] = ()


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
        narrow: only a few short columns; `dense`: many.

    Raises:
        ValueError: a row fills other than all columns.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Row | Sequence[str | Cell]]
    folded: str = ""
    note: str = ""
    split: str = ""
    narrow: bool = False
    dense: bool = False

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
    """A still figure's file name, what it shows, and what is seen in it, for who cannot see it."""

    name: str
    caption: str
    told: str = ""


@dataclass(frozen=True)
class Drawn:
    """Drawings side by side under their legend, on the page; in Markdown the file that shows the same."""

    drawings: Sequence[Drawing]
    legend: Sequence[Stroke] = ()
    still: Figure | None = None


@dataclass(frozen=True)
class Control:
    """A choice of one of several (value, words)."""

    id: str
    label: str
    options: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Choice:
    """What the page shows for the values of its controls, of which not all go together.

    Attributes:
        variants: by the values in the order of the controls; the first is shown to begin with.
        digest: what stands for them in Markdown.
    """

    controls: Sequence[Control]
    variants: Mapping[tuple[str, ...], Sequence[Part]]
    digest: Sequence[Part] = ()


@dataclass(frozen=True)
class Code:
    """A listing, and the words above it."""

    text: str
    language: str = ""
    words: str = ""
    anchor: str = ""


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
class Fold:
    """Parts that are folded away under a line of words; left out where nothing is in them."""

    words: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; one among the parts is a subsection.

    Attributes:
        nav: a shorter title for the page's list of sections.
        about: what is in it, in a line beside its title where it is folded; by default its first sentence, or
            clause.
        opening: it is read first, and not folded.
    """

    anchor: str
    title: str
    parts: Sequence[Part]
    nav: str = ""
    about: str = ""
    opening: bool = False

    @property
    def line(self) -> str:
        """`about`, or the first sentence of the first paragraph."""
        first = self.parts[0] if self.parts else ""
        words = first.text if isinstance(first, Prose) else first if isinstance(first, str) else ""
        sentence = words.partition(". ")[0].rstrip(".")
        if len(sentence) > LONG_LINE:
            sentence = re.split("[:;] ", sentence)[0]
        return self.about or sentence


Part = str | Prose | Table | Figure | Drawn | Choice | Key | Claim | Code | Formula | Fold | Section


@dataclass(frozen=True)
class Document:
    """A whole report: what it asks, its sections, the facts in short, and the file it was made from.

    Raises:
        ValueError: two sections of one anchor, which names their files and links.
    """

    title: str
    heading: str
    sections: Sequence[Section]
    source: str
    lede: Prose | None = None
    facts: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        anchors = [section.anchor for section in self.sections]
        if twice := [anchor for anchor in anchors if anchors.count(anchor) > 1]:
            raise ValueError(f"two sections have the anchor {twice[0]!r}")

    @property
    def opening(self) -> list[Section]:
        return [s for s in self.sections if s.opening]

    @property
    def folded(self) -> list[Section]:
        return [s for s in self.sections if not s.opening]


def numeric(*titles: str, unit: str = "") -> list[Column]:
    """Columns of numbers, all of one unit."""
    return [Column(title, unit, numeric=True) for title in titles]
