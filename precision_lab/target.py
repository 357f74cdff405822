"""Finds the kernel that a TARGET on the command line names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def load_target(target: str) -> Any:
    """The object at `package.module:attr` or `path/to/file.py:attr`; a bare name stays a name.

    A bare name is looked up among the registered implementations by whoever uses it.

    Raises:
        ValueError: the file or module cannot be imported, has no such attribute, or the
            attribute cannot be called.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon:
        return target
    module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ValueError(f"TARGET {target!r}: {place} has no attribute {attribute!r}")
        found = getattr(found, name)
    if isinstance(found, type):  # a module class: an instance of it
        found = found()
    if not callable(found):
        raise ValueError(f"TARGET {target!r} is a {type(found).__name__} and cannot be called")
    return found


def _from_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a stranger's module may raise anything on import
        raise ValueError(
            f"TARGET module {name!r} does not import: {type(error).__name__}: {error}"
        ) from error


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"TARGET file {str(path)!r} does not exist")
    # A name of its own, so that it neither hides nor is hidden by an installed module.
    name = f"_precision_lab_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"TARGET file {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        raise ValueError(
            f"TARGET file {str(path)!r} does not import: {type(error).__name__}: {error}"
        ) from error
    return module
