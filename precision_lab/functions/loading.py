"""A user's functions out of their files: `--function my_functions.py:quick_gelu`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from precision_lab.exceptions import UsageError, first_line, place_of, unknown_name
from precision_lab.functions.base import Activation
from precision_lab.system.near_files import no_such_file


def names_file(function: str) -> bool:
    """Whether a name is FILE:NAME, or a FILE alone, which `from_file` refuses."""
    return ":" in function or function.endswith(".py")


def from_file(target: str) -> Activation:
    """The function that a file has under a name.

    Raises:
        ValueError: no such file, a file that does not run, no name, or nothing of that name that is a
            function of a formula.
    """
    file, colon, name = target.rpartition(":")
    if not colon:
        file, name = target, ""
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"function={target!r}: the file {file!r} {no_such_file(path)}")
    module = _module(str(path.resolve()), path.stat().st_mtime_ns)
    found = {key: value for key, value in vars(module).items() if isinstance(value, Activation)}
    if name not in found:
        if name in vars(module):
            raise UsageError(
                f"function={target!r}: {name} is a {type(vars(module)[name]).__name__}; write "
                "@pl.activation before its "
                "definition"
            )
        if not found:
            raise UsageError(
                f"function={target!r}: {file} has no function of a formula; write @pl.activation before the "
                "definition of one"
            )
        if not name:
            raise UsageError(
                f"function={target!r} names a file and no function in it; write "
                f"{' or '.join(f'{file}:{each}' for each in found)}"
            )
        raise unknown_name(f"function of {path.name}", name, found)
    return replace(found[name], home=f"{path.resolve()}:{name}")


@lru_cache(maxsize=64)
def _module(path: str, changed: int) -> ModuleType:
    """The file, run once for each of its versions; its folder is importable from it while it runs."""
    folder, name = str(Path(path).parent), f"precision_lab_functions_{abs(hash((path, changed)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"function={path!r}: no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules[name] = module  # where dataclasses and pickle look a class up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(
            f"{Path(path).name} cannot be imported: {type(error).__name__}: {first_line(error)}"
            f"{place_of(error)}"
        ) from error
    finally:
        sys.path.remove(folder)
    return module
