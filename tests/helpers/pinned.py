"""Tells what this Python has installed otherwise than a file of constraints says: `pinned.py FILE`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

# The project itself, and what venv and virtualenv bring along: their own versions decide.
NOT_PINNED = frozenset({"precision-lab", "pip"})


def canonical(name: str) -> str:
    """A package's name as the index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Version by canonical name.

    Raises:
        ValueError: a line is neither NAME==VERSION nor a comment.
    """
    found = {}
    for line in text.splitlines():
        wanted = line.partition("#")[0].strip()
        if not wanted:
            continue
        name, equals, version = wanted.partition("==")
        if not equals or not re.fullmatch(r"[\w.-]+", name) or not re.fullmatch(r"[\w.]+", version):
            raise ValueError(f"{line!r}: expected NAME==VERSION")
        found[canonical(name)] = version
    return found


def otherwise(installed: Mapping[str, str], pinned: Mapping[str, str]) -> list[str]:
    """A sentence for each installed package that has no pin, or another version; builds of one are alike."""
    found = []
    for name, version in sorted(installed.items()):
        if name in NOT_PINNED:
            continue
        if name not in pinned:
            found.append(f"{name} {version} is not pinned")
        elif version.partition("+")[0] != pinned[name]:
            found.append(f"{name} {version} is installed, {pinned[name]} pinned")
    return found


def main(path: str) -> int:
    """Exit code 1 if anything is otherwise."""
    pinned = pins(Path(path).read_text(encoding="utf-8"))
    installed = {canonical(d.metadata["Name"]): d.version for d in distributions()}
    found = otherwise(installed, pinned)
    for sentence in found:
        print(f"{sys.prefix}: {sentence}", file=sys.stderr)
    if not installed:
        print(f"{sys.prefix}: nothing is installed there", file=sys.stderr)
    return 1 if found or not installed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
