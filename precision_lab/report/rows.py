"""Names that tie a claim to the row it was read from: anchors and labels."""

from __future__ import annotations

import re

from precision_lab.results import Measurement, Reduction, Timing
from precision_lab.results.execution import labelled


def anchor(case: str) -> str:
    """The id of a case's row in the page."""
    return "case-" + re.sub(r"[^A-Za-z0-9_]+", "-", case).strip("-")


def reduction_case(r: Reduction) -> str:
    """Readable key of a reduction, as `Measurement.case`; the data it summed tells two apart."""
    return "/".join(
        (
            "sum",
            r.function,
            r.implementation,
            r.execution,
            r.fmt,
            r.output,
            r.params_name,
            r.data.split(":")[0],
        )
    )


def timing_case(t: Timing) -> str:
    """Readable key of a timing, as `Measurement.case`."""
    return "/".join(("time", t.function, t.implementation, t.execution, t.fmt, t.direction))


def label(m: Measurement | Reduction | Timing) -> str:
    """Implementation and, unless it is plain eager, its execution."""
    return labelled(m.implementation, m.execution)
