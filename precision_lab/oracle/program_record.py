"""What the first tier runs: coefficients, tables and what is known beside constants, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from precision_lab.oracle.piecewise_values import Packed

MAX_TABLES = 8
MAX_TERMS = 6


class Program(NamedTuple):
    """Several outputs of one function as arrays for the first tier; compiled code takes it whole.

    Attributes:
        slots: of each term, shape (stretches, outputs, MAX_TERMS); -1 where there is no further term.
        weights: their coefficients.
        relative: bound relative to Σ |c_k b_k|, shape (stretches, outputs).
        absolute: what underflow and the floor of e^x can add.
        windows, pivots: stretches of |x| next to 0 and far out, [from, below), where an output lies
            strictly above (1) or below (-1) the absolute value of an exact constant: see `pivot`.
        needed: which slots each stretch must fill, shape (stretches, TABLE + MAX_TABLES).
        tables: of the basis functions in slots TABLE, TABLE + 1, …
    """

    slots: NDArray[np.int64]
    weights: NDArray[np.float64]
    relative: NDArray[np.float64]
    absolute: NDArray[np.float64]
    needed: NDArray[np.bool_]
    windows: NDArray[np.float64]
    pivots: NDArray[np.float64]
    tables: Packed


Pivot = tuple[tuple[float, float], tuple[float, int]]
