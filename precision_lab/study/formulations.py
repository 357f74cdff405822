"""What each formulation that a study measures is: words, and the code to paste, for a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from precision_lab.implementations.base import Implementation
from precision_lab.implementations.listing import listing


def formulations(implementations: Iterable[Implementation]) -> list[dict[str, Any]]:
    """One record for each function and name, in the order they are met.

    Returns:
        function, name, code ("" where there is none), and described: what is said of it, with the
        executions of which that is said.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for i in implementations:
        record = found.setdefault(
            (i.function.name, i.name),
            {"function": i.function.name, "name": i.name, "code": "", "described": {}},
        )
        record["code"] = record["code"] or listing(i)
        executions = record["described"].setdefault(i.description, [])
        if i.execution_name not in executions:
            executions.append(i.execution_name)
    return list(found.values())


__all__ = ["formulations"]
