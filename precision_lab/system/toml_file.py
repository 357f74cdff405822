"""TOML files that a user names on the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from precision_lab.exceptions import UsageError


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """The file's contents.

    Raises:
        ValueError: it is missing or no TOML; names the option it was given by.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{option} {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{option} {str(path)!r} is no TOML file: {error}") from error
