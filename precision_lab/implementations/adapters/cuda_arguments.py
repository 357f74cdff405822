"""What one parameter of a kernel of CUDA C++, PTX or machine code is filled with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from precision_lab.exceptions import UsageError
from precision_lab.formats import FloatFormat
from precision_lab.implementations.adapters.launch_description import Description, example, split

# Bytes of the values that a struct is made of, and of the kinds that C types are.
_BYTES = {"pointer": 8, "float": 4, "double": 8, "int32": 4, "int64": 8, "int16": 2, "int8": 1, "bits16": 2}
_TYPES = {"double": "double", "float": "float", "long": "int64", "int": "int32", "short": "int16",
          "char": "int8"}  # fmt: skip
_TYPED = re.compile(rf"({'|'.join(_TYPES)})\s*\((.*)\)", re.DOTALL)
_REAL = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_WHOLE = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}


@dataclass(frozen=True)
class Argument:
    """What a kernel's parameter is filled with.

    Attributes:
        meaning: "x", "y", "dy", "dx", "d_NAME", a parameter's name, "null" or a whole number to compute.
        kind: of the parameter: "pointer", "float", "double", "bits16", "int8" to "int64" or "struct".
        fmt: of what a pointer points to.
        parts: of a struct, its values.
        offset: in the struct.
        size: of a struct, in bytes.
    """

    meaning: str
    kind: str
    fmt: FloatFormat
    parts: tuple[Argument, ...] = ()
    offset: int = 0
    size: int = 0

    @property
    def values(self) -> tuple[Argument, ...]:
        """Itself, or what it is made of."""
        return self.parts if self.kind == "struct" else (self,)

    @property
    def real(self) -> float | None:
        """The number that is written there with a point."""
        return float(self.meaning) if _REAL.fullmatch(self.meaning) else None


def argument(
    meaning: str,
    kind: str,
    fmt: FloatFormat,
    shape: str,
    description: Description,
    parameters: Sequence[str],
    *,
    result: bool = False,
) -> Argument:
    """What fills a parameter of that kind.

    Args:
        meaning: as its launch description or its own name says.
        fmt: of what it points to, if it is a pointer.
        shape: the kernel with its parameters, for messages.
        parameters: those of the function that the kernel computes.
        result: whether it may be what another kernel returned.

    Raises:
        ValueError: the meaning is not known, or does not fit the kind.
    """
    if meaning in ("x", "y", "dy", "dx", "null", *["result"] * result, *(f"d_{p}" for p in parameters)):
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


def placed(
    meaning: str, size: int, fmt: FloatFormat, shape: str, description: Description, parameters: Sequence[str]
) -> Argument:
    """What fills a parameter of machine code, of which its size alone is known; see `launch_description`.

    Raises:
        ValueError: the meaning is not known, or does not fit the size.
    """
    if meaning.startswith("{") and meaning.endswith("}"):
        return _struct(meaning, size, fmt, shape, description, parameters)
    found = _value(meaning, size, fmt, shape, description, parameters)
    if _BYTES[found.kind] != size:
        raise UsageError(f"{shape}: {meaning} ({found.kind}) cannot fill a parameter of {size} bytes")
    return found


def _struct(
    meaning: str, size: int, fmt: FloatFormat, shape: str, description: Description, parameters: Sequence[str]
) -> Argument:
    parts: list[Argument] = []
    at, widest = 0, 1
    for each in split(meaning[1:-1]):
        part = _value(each.strip(), 0, fmt, shape, description, parameters)
        own = _BYTES[part.kind]
        at, widest = -(-at // own) * own, max(widest, own)
        parts.append(replace(part, offset=at))
        at += own
    # A struct may end in what the kernel never reads; if it does, the launch is refused.
    if -(-at // widest) * widest > size:
        raise UsageError(
            f"{shape}: {meaning} has {-(-at // widest) * widest} bytes and cannot fill a parameter of {size}"
        )
    return Argument(meaning, "struct", fmt, tuple(parts), 0, size)


def _value(
    meaning: str, size: int, fmt: FloatFormat, shape: str, description: Description, parameters: Sequence[str]
) -> Argument:
    """
    Args:
        size: 0 where nothing but the text says it.
    """
    typed = _TYPED.fullmatch(meaning)
    if typed:
        kind, meaning = _TYPES[typed.group(1)], typed.group(2).strip()
    elif _REAL.fullmatch(meaning):
        kind = "double" if size == 8 else "float"
    elif meaning in parameters:
        kind = {2: "bits16", 8: "pointer"}.get(size, "float")
    elif meaning.isidentifier() and meaning not in ("n", "block", "per_thread"):
        kind = "pointer"
    else:
        kind = _WHOLE.get(size, "int32")
    if _REAL.fullmatch(meaning):
        if kind not in ("float", "double"):
            raise UsageError(f"{shape}: {meaning} cannot fill a parameter of kind {kind}")
        return Argument(meaning, kind, fmt)
    if kind in ("float", "double") and meaning not in parameters:
        description.number(meaning, 1)
        return Argument(f"{meaning}.0" if meaning.isdecimal() else meaning, kind, fmt)
    checked = "int32" if kind in ("int8", "int16") else kind
    return replace(argument(meaning, checked, fmt, shape, description, parameters, result=True), kind=kind)
