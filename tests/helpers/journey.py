"""Follows a format, a kernel or a parameter set through a measurement: files whose functions are given it.

    python tests/helpers/journey.py            # of the lab that is installed, or stands in PYTHONPATH

A function is given it where an argument is the object itself, its name, or a record that holds it.
`climbs`: how often the next file stands on a higher floor.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import sys
from pathlib import Path
from typing import Any

import house
import numpy as np

import precision_lab as pl

PACKAGE = Path(pl.__file__).parent
NAMES = {"format": "bf16", "kernel": "stable", "parameters": "init"}
LOOKUPS = ("get_format", "kernel_format", "get_function", "get_implementation", "get_device", "usable_device")
PARAMETERS = {"alpha_p": 0.75, "alpha_n": 0.9}


def holds(what: str, value: Any, depth: int = 2) -> bool:
    """Whether a value is what is followed, or a record with it."""
    if isinstance(value, str):
        return value == NAMES[what]
    if what == "format" and type(value).__name__ == "FloatFormat":
        return bool(value.name == NAMES[what])
    if what == "kernel" and type(value).__name__ == "Implementation":
        return bool(value.name == NAMES[what])
    if what == "parameters" and type(value).__name__ in ("dict", "mappingproxy", "Asked", "Effective"):
        return {"alpha_p", "alpha_n"} <= set(map(str, value))
    if depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = (value.__dict__.get(f.name) for f in dataclasses.fields(value) if hasattr(value, "__dict__"))
        return any(holds(what, part, depth - 1) for part in inner)
    return False


def followed(what: str) -> tuple[list[str], int]:
    """Files in the order in which they are given it; how often names were looked up."""
    stays: list[str] = []
    lookups = 0

    def note(frame: Any, event: str, _: Any) -> None:
        nonlocal lookups
        code = frame.f_code
        if (
            event != "call"
            or not code.co_filename.startswith(str(PACKAGE))
            or code.co_name.startswith(("<", "__"))
        ):
            return
        lookups += code.co_name in LOOKUPS
        arguments = inspect.getargvalues(frame)
        if any(holds(what, arguments.locals.get(name)) for name in arguments.args if name != "self"):
            file = str(Path(code.co_filename).relative_to(PACKAGE))
            if not stays or stays[-1] != file:
                stays.append(file)

    x = np.arange(-128, 128) / 32  # numbers of bf16
    given = {"fmt": "bf16", "params": PARAMETERS, "inputs": x}
    pl.measure("stable", "xielu", **given)  # whatever is imported or compiled has been
    sys.setprofile(note)
    try:
        pl.measure("stable", "xielu", **given)
    finally:
        sys.setprofile(None)
    return stays, lookups


def main() -> None:
    graph = house.graph_of(PACKAGE)
    floors = house.floors(graph)
    heights = {
        str(p.relative_to(PACKAGE)): floors[n] for n, p in house.modules(PACKAGE).items() if n in floors
    }
    for what in NAMES:
        stays, lookups = followed(what)
        files = list(dict.fromkeys(stays))
        climbs = sum(heights.get(b, 0) > heights.get(a, 0) for a, b in itertools.pairwise(stays))
        counts = (
            f"{len(files)} files, {len(stays)} stays, {climbs} climbs, {lookups} look-ups of names in all"
        )
        print(f"{what}: {counts}: {', '.join(files)}")


if __name__ == "__main__":
    main()
