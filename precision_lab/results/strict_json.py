"""JSON that any reader takes: numbers that JSON lacks are written as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _floats(data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `data` with the named fields as floats ("inf", "-inf", "nan" are strings in JSON)."""
    values = dict(data)
    for name in names:
        values[name] = float(values[name])
    return values


def strict_json(data: Any) -> str:
    """Compact JSON that every reader takes: non-finite floats as "inf", "-inf", "nan"."""
    return json.dumps(_strict(data), allow_nan=False, separators=(",", ":"))


def _strict(value: Any) -> Any:
    """`value` with non-finite floats spelt as strings, so that the file is JSON for every reader."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    return value
