"""What one parameter of a CUDA C++ or PTX kernel is filled with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from precision_lab.exceptions import UsageError
from precision_lab.formats import FloatFormat
from precision_lab.implementations.adapters.launch_description import Description, example


@dataclass(frozen=True)
class Argument:
    """What a kernel's parameter is filled with.

    Attributes:
        meaning: "x", "y", "dy", "dx", "d_NAME", a parameter's name, "null" or a whole number to compute.
        kind: of the parameter: "pointer", "float", "double", "bits16", "int32" or "int64".
        fmt: of what a pointer points to.
    """

    meaning: str
    kind: str
    fmt: FloatFormat


def argument(
    meaning: str, kind: str, fmt: FloatFormat, shape: str, description: Description, parameters: Sequence[str]
) -> Argument:
    """What fills a parameter of that kind.

    Args:
        meaning: as its launch description or its own name says.
        fmt: of what it points to, if it is a pointer.
        shape: the kernel with its parameters, for messages.
        parameters: those of the function that the kernel computes.

    Raises:
        ValueError: the meaning is not known, or does not fit the kind.
    """
    if meaning in ("x", "y", "dy", "dx", "null", *(f"d_{p}" for p in parameters)):
        fits: tuple[str, ...] = ("pointer",)
    elif meaning in parameters:
        fits = ("pointer", "float", "double", "bits16")
    elif meaning.isidentifier() and meaning not in ("n", "block", "per_thread"):
        shown = f"{shape.partition('(')[0]}(x, y, n)"
        raise UsageError(
            f"{shape}: {meaning!r} in its launch description is not known; {example(shown, parameters)}"
        )
    else:
        description.number(meaning, 1)
        fits = ("int32", "int64")
        kind = "int64" if kind == "pointer" else kind  # PTX has one kind for both
    if kind not in fits:
        raise UsageError(f"{shape}: {meaning} cannot fill a parameter of kind {kind}")
    return Argument(meaning, kind, fmt)
