"""Parametrised tests of which some run by default, the rest being slow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def one_in(n: int, cases: Iterable[Any]) -> list[Any]:
    """The cases, as values or as `pytest.param`; all but every n-th are slow."""
    found = []
    for k, case in enumerate(cases):
        marks = [pytest.mark.slow] if k % n else []
        if hasattr(case, "marks"):
            found.append(pytest.param(*case.values, id=case.id, marks=[*case.marks, *marks]))
        else:
            found.append(pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks))
    return found


def in_turn(first: Iterable[Any], second: Sequence[Any], every: int = 0) -> list[Any]:
    """Every pair, flat; the first of `first` runs with the first of `second`, and so on; the rest is slow.

    Args:
        every: each runs with one in so many of `second`, one further on each time; by default with one.
    """
    found, every = [], every or len(second)
    for k, a in enumerate(first):
        for j, b in enumerate(second):
            values = (*a, b) if isinstance(a, tuple) else (a, b)
            found.append(pytest.param(*values, marks=[pytest.mark.slow] if (j - k) % every else []))
    return found
