"""Reads a user's study profile: the door at which the names of a file are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precision_lab.devices import Emulated, get_device
from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import IMPLEMENTATIONS, get_execution, get_implementation
from precision_lab.implementations.subject import implementation_of, spelled
from precision_lab.lowprecision.recipes.recipes import get_recipe
from precision_lab.results.profile import DEFAULT, Check, Profile, merged
from precision_lab.system.toml_file import read_toml


def _formulation(name: str) -> None:
    """Some function has it, as block errors want it: NAME or NAME [EXECUTION]."""
    known = {spelled(i) for i in IMPLEMENTATIONS.values()}
    if name not in known:
        raise unknown_name("formulation", name, known)


def _baselines(value: Mapping[str, str]) -> None:
    for function, name in value.items():
        get_implementation(get_function(function), name)


def _parameter_sets(value: Any) -> None:
    for function, names in value.items():
        known = get_function(function).parameter_sets
        for name in names:
            if name not in known:
                raise unknown_name(f"parameter set of {function}", name, known)


def _emulated(name: str) -> None:
    device = get_device(name)
    if not device.own_process:
        raise UsageError(f"{name!r} is no emulated device; expected {Emulated.spelling}")


READERS: Mapping[str, Check] = {
    "function": get_function,
    "format": get_format,
    "execution": get_execution,
    "parameter sets": _parameter_sets,
    "subject": implementation_of,
    "recipe": get_recipe,
    "formulation": _formulation,
    "emulated device": _emulated,
    "baselines": _baselines,
}


def profile_from(data: Mapping[str, Any], place: str) -> Profile:
    """The default profile with a file's keys in place of its own.

    Raises:
        ValueError: as `results.profile.merged`; unknown implementations and recipes too.
    """
    return merged(DEFAULT, data, place, READERS)


def read_profile(path: Path) -> Profile:
    """The default profile with the keys of a TOML file in place of its own.

    Raises:
        ValueError: no such file, or as `profile_from`; it names baselines, which a report holds nothing to.
    """
    data = read_toml(path, "--profile")
    if "eager" in data:
        raise UsageError(f"{path}: [eager]: a report needs no baseline; `verify --against NAME` takes one")
    return profile_from(data, str(path))


__all__ = ["READERS", "profile_from", "read_profile"]
