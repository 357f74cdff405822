"""What sections of a report are made of, and how numbers are written in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Data = Mapping[str, Any]
Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows under headings; folded away under its title unless that is empty."""

    headings: Row
    rows: Sequence[Row]
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure's file name and what it shows."""

    name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    parts: tuple[str | Table | Figure, ...]


def number(value: Any) -> float:
    """A number as JSON holds it; NaN for null."""
    return math.nan if value is None else float(value)


def percent(value: Any, digits: int = 2) -> str:
    """A share in percent; with an exponent where the digits would read as zero."""
    v = 100 * number(value)
    if math.isnan(v):
        return "–"
    small = 0 < abs(v) < 0.5 * 10.0**-digits  # would read as zero
    return f"{v:.1e} %" if small else f"{v:.{digits}f} %"


def short(value: Any, form: str = ".3g") -> str:
    """A number in a few digits; a dash for none."""
    v = number(value)
    return "–" if math.isnan(v) else format(v, form)


def gap_of(value: Any) -> float:
    """A gap as JSON holds it; infinite for a run that diverged."""
    return math.inf if value in (None, "inf") else float(value)


__all__ = ["Data", "Figure", "Row", "Section", "Table", "gap_of", "number", "percent", "short"]
