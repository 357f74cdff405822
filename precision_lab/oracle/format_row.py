"""A number format as loops take it: one array of numbers, so that one compilation serves all formats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat

PRECISION, EMIN, EMAX, MAX_FINITE, MAX_SIGNIFICAND, HAS_INFINITY, SATURATING = range(7)


def format_row(fmt: FloatFormat, saturating: bool) -> NDArray[np.float64]:
    """A format as compiled code takes it; in the order of the names above."""
    return np.array(
        [
            fmt.precision,
            fmt.emin,
            fmt.emax,
            fmt.max_finite,
            fmt.max_significand,
            fmt.has_infinity,
            saturating or fmt.always_saturates,
        ],
        np.float64,
    )
