"""Which inputs a chunk is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Patterns:
    """Bit patterns of a chunk's inputs, ascending: `listed`, or where that is None, from `first` on.

    A sweep lists none: so many as a chunk has would take the time of scoring them.
    """

    first: int = 0
    listed: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, bits: NDArray[Any]) -> Patterns:
        """Those of an array of patterns of any width."""
        return cls(0, bits.astype(np.uint64, copy=False).view(np.int64))

    def at(self, index: Any) -> Any:
        """The pattern of an input of the chunk, or of several."""
        return self.first + index if self.listed is None else self.listed[index]

    def between(self, start: int, end: int) -> Patterns:
        """Those of a part of the chunk."""
        if self.listed is None:
            return Patterns(self.first + start)
        return Patterns(0, self.listed[start:end])

    @property
    def as_array(self) -> NDArray[np.int64]:
        """Those that are listed: for compiled code, which takes an array and knows an empty one."""
        return _NONE if self.listed is None else self.listed


__all__ = ["Patterns"]
