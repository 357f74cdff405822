"""The JSON Schema of a finding, made from its record.

`python -m precision_lab.results.finding_schema` writes it, from the root of a checkout.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from precision_lab.results.codes import CODES
from precision_lab.results.facts import Sighting
from precision_lab.results.finding import SCHEMA, Finding
from precision_lab.results.measurement import Witness
from precision_lab.results.severity import Severity

PATH = Path("docs") / "finding.schema.json"  # from the root of a checkout
RECORDS = (Witness, Sighting)
DESCRIPTIONS = {
    "schema": "Of this schema; it rises when a reader of the old one would misunderstand the new one.",
    "kind": "The code, by the name that it had in earlier versions.",
    "severity": "How much harm it does, by the other fields; it does not decide whether a kernel passes.",
    "next_step": "What the kernel's author should do next.",
}


def finding_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `Finding.to_json` gives, non-finite numbers being written as text."""
    codes = [{"const": name, "description": code.sentence} for name, code in CODES.items()]
    levels = [{"const": level.word, "description": level.sentence} for level in Severity]
    derived: dict[str, Any] = {
        "schema": {"const": SCHEMA},
        "kind": {"$ref": "#/properties/code"},
        "code": {"oneOf": codes},
        "severity": {"oneOf": levels},
        "next_step": {"type": "string"},
    }
    for name, words in DESCRIPTIONS.items():
        derived[name]["description"] = words
    properties = {**_properties(Finding), **derived}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:precision-lab:finding:{SCHEMA}",
        "title": "Finding",
        "description": "One thing found about a kernel by precision_lab. Later versions may add properties.",
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "$defs": {
            "number": {
                "description": "A float64 number; JSON lacks those that are written as text.",
                "anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}],
            },
            **{record.__name__: _record(record) for record in RECORDS},
        },
    }


def _record(record: type) -> dict[str, Any]:
    properties = _properties(record)
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _properties(record: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: _schema_of(hints[field.name]) for field in dataclasses.fields(record)}


def _schema_of(hint: Any) -> dict[str, Any]:
    """Of a field's type.

    Raises:
        TypeError: a type that no finding has had so far.
    """
    if hint in RECORDS:
        return {"$ref": f"#/$defs/{hint.__name__}"}
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return {"anyOf": [_schema_of(kind) for kind in arguments]}
    if typing.get_origin(hint) is tuple:
        return {"type": "array", "items": _schema_of(arguments[0])}
    known: dict[Any, dict[str, Any]] = {
        str: {"type": "string"},
        int: {"type": "integer", "minimum": 0},
        float: {"$ref": "#/$defs/number"},
        type(None): {"type": "null"},
    }
    if hint not in known:
        raise TypeError(f"hint={hint!r}: say here how it is written")
    return dict(known[hint])


def schema_text() -> str:
    """The file's text."""
    return json.dumps(finding_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8")
