"""Named parameter sets from a user's TOML file."""

from __future__ import annotations

from pathlib import Path

from precision_lab.exceptions import UsageError
from precision_lab.functions import get_function
from precision_lab.system.toml_file import read_toml


def read_parameter_sets(path: Path, function: str) -> dict[str, dict[str, float]]:
    """Parameter values by name of the set: `[layer-0]` followed by `alpha_p = 1.9` and so on.

    Raises:
        ValueError: the file is missing, no TOML or empty, or a parameter is unknown or not legal;
            names the set.
    """
    data = read_toml(path, "--params-file")
    if not data:
        raise UsageError(f"--params-file {str(path)!r} names no parameter set")
    definition = get_function(function)
    found = {}
    for name, values in data.items():
        numbers = isinstance(values, dict) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in values.values()
        )
        if not numbers:
            raise UsageError(f"{path}: {name}={values!r} must be a table of numbers")
        try:
            found[name] = definition.check_params(values)
        except ValueError as error:
            raise UsageError(f"{path}: [{name}]: {error}") from error
        if name == "init" and found[name] != definition.check_params():
            raise UsageError(f"{path}: [init] is what {function} starts with; call other values otherwise")
    return found
