"""Parameter values: those asked for, and those a kernel really uses. Two types, so that none is the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Parameters(Mapping[str, float]):
    """Values by name, which cannot be changed; equal to any mapping that holds the same ones."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


class Asked(Parameters):
    """What the caller asks a kernel to compute with, in float64."""


class Effective(Parameters):
    """What the kernel computes with: as rounded to the dtype that it receives them in, or as it says itself.

    The exact values that it is held to are those of these.
    """
