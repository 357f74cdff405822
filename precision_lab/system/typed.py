"""Whether a record that was made from a file's data is what its annotations say."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


def checked(record: T) -> T:
    """A dataclass's instance whose fields are of their types; records within it were checked before.

    A float may be an int; an int is a count, and not negative.

    Raises:
        ValueError: names the field and its value.
    """
    kind: Any = type(record)
    for name, hint in _fields(kind):
        value = getattr(record, name)
        if type(value) is not hint and not _conforms(value, hint):
            raise ValueError(f"{name}={_short(value)}: expected {getattr(hint, '__name__', hint)}")
        if hint is int and value < 0:
            raise ValueError(f"{name}={_short(value)}: expected a count")
    return record


@lru_cache(maxsize=64)
def _fields(record: Any) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(record)
    return tuple((f.name, hints[f.name]) for f in dataclasses.fields(record))


def _conforms(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_conforms(value, kind) for kind in arguments)
    if origin in (list, tuple):
        if not isinstance(value, origin):
            return False
        kinds = arguments[:1] * len(value) if origin is list or ... in arguments else arguments
        return len(kinds) == len(value) and all(map(_conforms, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _conforms(part, arguments[1]) for key, part in value.items()
        )
    if hint is float:
        return type(value) in (float, int)
    return type(value) is hint


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else shown[:100] + "…"


__all__ = ["checked"]
