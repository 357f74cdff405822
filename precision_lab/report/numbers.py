"""How numbers are written in a report, and read from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Data = Mapping[str, Any]


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


def ratio(value: float, digits: int = 3) -> str:
    """A number of so many decimals; a dash where it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def gap_of(value: Any) -> float:
    """A gap as JSON holds it; infinite for a run that diverged."""
    return math.inf if value in (None, "inf") else float(value)


__all__ = ["Data", "gap_of", "number", "percent", "ratio", "short"]
