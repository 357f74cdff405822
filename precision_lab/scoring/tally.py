"""What a pass over inputs leaves behind for one output: counts that add up to the same in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.oracle import TIERS
from precision_lab.scoring import columns

Int64 = NDArray[np.int64]

# Columns of `edges`: pattern, then computed value, exact value and its bound as float64 bits.
EDGE_COLUMNS = 4
# Rows of `near`: +0, −0, and the smallest positive and negative input seen, as pattern and value bits.
MASK = (1 << 64) - 1  # patterns of negative fp64 numbers are negative as int64
PLUS_ZERO, MINUS_ZERO, POSITIVE, NEGATIVE = range(4)


DIGEST_VERSION = 2  # of what a digest covers


@dataclass
class Tally:
    """Counts of one output.

    Attributes:
        rows: two per cell, see `scoring.columns`.
        histogram: of |error|, see `scoring.columns.bin_edge`.
        tiers: inputs that each tier settled.
        undecided: patterns that no tier could decide, in no particular order.
        edges: first and last input of every chunk, so that monotony can be judged across chunks.
        near: computed values at ±0 and at the inputs next to them; pattern -1 where there is none.
    """

    rows: Int64
    histogram: Int64 = field(default_factory=lambda: np.zeros(columns.BINS, np.int64))
    tiers: Int64 = field(default_factory=lambda: np.zeros(len(TIERS), np.int64))
    undecided: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    edges: Int64 = field(default_factory=lambda: np.zeros((0, EDGE_COLUMNS), np.int64))
    near: Int64 = field(default_factory=lambda: np.full((4, 2), -1, np.int64))

    @classmethod
    def empty(cls, cells: int) -> Tally:
        return cls(columns.empty(cells))

    def merge(self, other: Tally) -> None:
        """Adds another tally of the same cells; associative and commutative."""
        columns.merge(self.rows, other.rows)
        self.histogram += other.histogram
        self.tiers += other.tiers
        self.undecided = np.concatenate([self.undecided, other.undecided])
        self.edges = np.concatenate([self.edges, other.edges])
        for mine, theirs in zip(self.near, other.near, strict=True):
            if theirs[0] != -1 and (mine[0] == -1 or int(theirs[0]) & MASK < int(mine[0]) & MASK):
                mine[:] = theirs

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays in a canonical order, which `from_arrays` takes back."""
        return {
            "rows": self.rows,
            "histogram": self.histogram,
            "tiers": self.tiers,
            "undecided": np.sort(self.undecided),
            "edges": self.edges[np.argsort(self.edges[:, 0], kind="stable")],
            "near": self.near,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Tally:
        return cls(**{name: np.array(arrays[name], np.int64) for name in cls.__dataclass_fields__})

    def digest(self, version: int = DIGEST_VERSION) -> str:
        """SHA-256 of everything counted: the same for the same results, however they were cut up.

        Args:
            version: 1 leaves out the signed sums, which came later.
        """
        found = hashlib.sha256()
        arrays = self.arrays()
        if version == 1:
            arrays["rows"] = self.rows[:, : columns.FIRST_COLUMNS]
        for name, array in arrays.items():
            found.update(name.encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()
