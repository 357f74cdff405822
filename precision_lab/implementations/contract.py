"""Which sizes and shapes of x a kernel is called with; plain data, so that it travels to another process."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precision_lab.exceptions import UsageError

WIDTH = 64  # of rows whose width is free


@dataclass(frozen=True)
class CallContract:
    """The calls that a kernel accepts, as its author declares them or as they were found by trying.

    Attributes:
        multiple_of: of which the last dimension is a multiple; in one dimension, the number of elements.
        shapes: patterns of which the shape fits one, None standing for any size. Empty for every shape.

    Raises:
        ValueError: multiple_of < 1, a size below 0, or sizes that no multiple of `multiple_of` fits.
    """

    multiple_of: int = 1
    shapes: tuple[tuple[int | None, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.multiple_of < 1:
            raise UsageError(f"multiple_of={self.multiple_of!r}: must be a whole number of at least 1")
        for pattern in self.shapes:
            if any(size is not None and size < 1 for size in pattern):
                raise UsageError(f"shape {_text(pattern)!r}: sizes must be at least 1, or * for any")
            last = pattern[-1] if pattern else 1
            if last is not None and last % self.multiple_of:
                raise UsageError(
                    f"shape {_text(pattern)!r} contradicts multiple_of={self.multiple_of}: "
                    f"its last size is no multiple"
                )

    @property
    def is_free(self) -> bool:
        """Whether every size and shape is accepted."""
        return self.multiple_of == 1 and not self.shapes

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape may be given."""
        if self.multiple_of > 1 and (not shape or shape[-1] % self.multiple_of):
            return False
        return not self.shapes or any(
            len(pattern) == len(shape)
            and all(size in (None, given) for size, given in zip(pattern, shape, strict=True))
            for pattern in self.shapes
        )

    def shape_for(self, n: int, dims: int | None = None) -> tuple[int, ...] | None:
        """An accepted shape of at least n ≥ 1 elements; of fewer only where every size is given.

        Args:
            dims: how many dimensions; by default one, or as many as the first pattern has.

        Returns:
            None where no accepted shape has that many dimensions.
        """
        patterns = self.shapes or ((None,) * (1 if dims is None else dims),)
        for pattern in patterns:
            if dims is None or len(pattern) == dims:
                return self._filled(pattern, n)
        return None

    def _filled(self, pattern: tuple[int | None, ...], n: int) -> tuple[int, ...]:
        sizes = list(pattern)
        free = [i for i, size in enumerate(sizes) if size is None]
        left = -(-n // math.prod(size for size in sizes if size is not None))  # elements in the free ones
        for i in reversed(free):  # rows of a usual width, a few of them together, the rest in the first
            if i == free[0]:
                size = left
            elif i == len(sizes) - 1:
                size = min(left, WIDTH)
            else:
                size = min(left, 4)
            if i == len(sizes) - 1:
                size = -(-size // self.multiple_of) * self.multiple_of
            sizes[i] = max(size, 1)
            left = -(-left // max(size, 1))
        return tuple(size or 1 for size in sizes)

    def words(self) -> str:
        """What is accepted, for people."""
        said = [f"multiples of {self.multiple_of} elements"] if self.multiple_of > 1 else []
        if self.shapes:
            said.append(f"shapes {', '.join(_text(pattern) for pattern in self.shapes)}")
        return " in ".join(said) or "every size and shape"

    def options(self) -> list[str]:
        """What declares it on the command line."""
        words = [f"--multiple-of {self.multiple_of}"] if self.multiple_of > 1 else []
        return words + [f"--shape {shlex.quote(_text(pattern))}" for pattern in self.shapes]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallContract:
        return cls(data["multiple_of"], tuple(tuple(pattern) for pattern in data["shapes"]))


def read_shape(text: str) -> tuple[int | None, ...]:
    """A pattern written as sizes with commas between them, * for any, such as "*,4096".

    Raises:
        ValueError: a size that is neither a whole number nor *.
    """
    sizes = [part.strip() for part in text.split(",")]
    if not all(part == "*" or part.isdecimal() for part in sizes):
        raise UsageError(
            f"shape {text!r}: expected sizes with commas between them, * for any, such as '*,64'"
        )
    return tuple(None if part == "*" else int(part) for part in sizes)


def _text(pattern: tuple[int | None, ...]) -> str:
    return ",".join("*" if size is None else str(size) for size in pattern)
