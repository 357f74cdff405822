"""The study profile: which subjects a study measures, and which its report shows first, by name.

The default is `profile.toml` beside this file, and a user's file takes its place key by key
(`study.profile.read_profile`). A report is rebuilt from `Results.settings`, which keep `Shown`.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from precision_lab.exceptions import UsageError

Names = tuple[str, ...]
Check = Callable[[Any], object]  # raises ValueError for a name that is none


# What the names of a field are.
Functions = Annotated[Names, "function"]
Formats = Annotated[Names, "format"]
Executions = Annotated[Names, "execution"]
Subjects = Annotated[Names, "subject"]
Recipes = Annotated[Names, "recipe"]
Formulations = Annotated[Names, "formulation"]
Devices = Annotated[Names, "emulated device"]


@dataclass(frozen=True)
class Measured:
    """Functions, in the order they are measured in, and formats; all functions where none is named. Emulated
    devices on which a study of the processor measures what brings code for them, and what is counted there
    besides the kernels of the functions shown first.
    """

    functions: Functions
    formats: Formats
    quick_functions: Functions
    quick_formats: Formats
    emulated: Devices
    counted: Subjects


@dataclass(frozen=True)
class Timed:
    """What is timed: executions, functions under torch.compile, and FUNCTION/FORMULATION in MLP blocks."""

    executions: Executions
    accelerator_executions: Executions
    compiled_functions: Functions
    blocks: Subjects


@dataclass(frozen=True)
class Judged:
    """What is judged below BF16, as the comments of `profile.toml` say."""

    functions: Functions
    mapped: Functions
    compared: Functions
    block_recipes: Recipes
    block_formulations: Formulations
    parameter_sets: Annotated[Mapping[str, Names], "parameter sets"]


@dataclass(frozen=True)
class Shown:
    """What a report shows first, and whose order of speed it sets its own beside."""

    lead: Functions
    speed_order: Functions
    speed_source: Annotated[str, "words"]

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it."""
        return {
            "lead": list(self.lead), "speed_order": list(self.speed_order), "speed_source": self.speed_source
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Shown:
        """What `to_json` wrote; names of functions that are not registered here stay.

        Raises:
            ValueError: a key is missing or of another kind.
        """
        for key, wanted in (("lead", list), ("speed_order", list), ("speed_source", str)):
            value = data.get(key)
            if not isinstance(value, wanted) or not all(isinstance(part, str) for part in value):
                raise ValueError(f"profile {key}={value!r}")
        return cls(tuple(data["lead"]), tuple(data["speed_order"]), data["speed_source"])


@dataclass(frozen=True)
class Profile:
    """Every subject that a study or a report names.

    Attributes:
        study, timing, lowprecision, report: tables of the file.
        eager: formulation by function, where a kernel's usual baseline is not "torch".
    """

    study: Measured
    timing: Timed
    lowprecision: Judged
    report: Shown
    eager: Annotated[Mapping[str, str], "baselines"]


def merged(base: Profile, data: Mapping[str, Any], place: str, checks: Mapping[str, Check]) -> Profile:
    """A profile with a file's keys in place of its own.

    Args:
        data: the file's contents.
        place: the file, for messages.
        checks: by the kind of names; kinds that are missing are taken as they are: what names them is not
            imported here, for a report is read and rebuilt without it.

    Raises:
        ValueError: a table or key that there is not, a value of another type, or a name that is none; says
            file, key and value.
    """
    hints = typing.get_type_hints(Profile, include_extras=True)
    tables: dict[str, Any] = {}
    for table, values in data.items():
        if table not in hints or not isinstance(values, dict):
            raise UsageError(f"{place}: [{table}]: expected one of the tables {', '.join(hints)}")
        if table == "eager":
            tables[table] = {**base.eager, **_value(f"{place}: [eager]", values, hints[table], checks)}
            continue
        before = getattr(base, table)
        kinds = typing.get_type_hints(hints[table], include_extras=True)
        read = {}
        for key, value in values.items():
            if key not in kinds:
                raise UsageError(f"{place}: [{table}] {key}={value!r}: expected one of {', '.join(kinds)}")
            read[key] = _value(f"{place}: [{table}] {key}", value, kinds[key], checks)
            if isinstance(value, dict):
                read[key] = {**getattr(before, key), **read[key]}
        for key in ("functions", "formats"):
            if table == "study" and key in read:
                read.setdefault(f"quick_{key}", read[key])
        tables[table] = dataclasses.replace(before, **read)
    return dataclasses.replace(base, **tables)


def _value(place: str, value: Any, hint: Any, checks: Mapping[str, Check]) -> Any:
    """A key's value, lists as tuples."""
    wanted, kind = typing.get_args(hint)
    check = checks.get(kind)
    if wanted == Names:
        for name in _names(place, value):
            _checked(f"{place}={value!r}", check, name)
        return _names(place, value)
    if wanted is str:
        return _words(place, value)
    if not isinstance(value, dict):
        raise UsageError(f"{place}={value!r}: expected a table")
    read = _words if wanted == Mapping[str, str] else _names
    found = {name: read(f"{place}.{name}", part) for name, part in value.items()}
    _checked(f"{place}={value!r}", check, found)
    return found


def _words(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{place}={value!r}: expected words")
    return value


def _names(place: str, value: Any) -> Names:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{place}={value!r}: expected a list of names")
    if len(set(value)) < len(value):
        raise UsageError(f"{place}={value!r}: a name stands there twice")
    return tuple(value)


def _checked(place: str, check: Check | None, value: Any) -> None:
    try:
        if check is not None:
            check(value)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from error


def _default() -> Profile:
    text = Path(__file__).with_name("profile.toml").read_text(encoding="utf-8")
    nothing = Profile(
        Measured((), (), (), (), (), ()),
        Timed((), (), (), ()),
        Judged((), (), (), (), (), {}),
        Shown((), (), ""),
        {},
    )
    return merged(nothing, tomllib.loads(text), "profile.toml", {})  # its names are a test's to check


DEFAULT = _default()

__all__ = ["DEFAULT", "Check", "Judged", "Measured", "Profile", "Shown", "Timed", "merged"]
