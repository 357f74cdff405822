"""How a kernel is examined, and what one property finds out about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from precision_lab.results import Finding, NotExamined
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.properties import BUDGET


@dataclass(frozen=True)
class Outcome:
    """What one property found: faults, differences within the bound, and what was not looked at.

    Attributes:
        inapplicable: why there is nothing to examine; "" where there is.
    """

    faults: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    not_examined: tuple[NotExamined, ...] = ()
    inapplicable: str = ""


@dataclass(frozen=True)
class Terms:
    """How a kernel is examined.

    Attributes:
        bounds: by output; what differs within them is a note.
        accurate: outputs that a measurement has found within their bounds.
        isolated: the process is the kernel's own, and may die of what it does.
        budget: seconds for large calls.
        budget_asked: whether the caller named that budget, or the property itself.
        announce: told what the kernel is called with, before it is.
    """

    bounds: Mapping[str, Bound]
    accurate: frozenset[str] = frozenset()
    isolated: bool = False
    budget: float = BUDGET
    budget_asked: bool = False
    announce: Callable[[str], None] = lambda words: None
