"""Implementations as configurations spell them: FUNCTION/FORMULATION, such as "xielu/stable [operator]"."""

from __future__ import annotations

from precision_lab.exceptions import UsageError
from precision_lab.formats import FP32
from precision_lab.functions import get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.base import Implementation
from precision_lab.results.execution import labelled


def implementation_of(subject: str) -> Implementation:
    """The implementation that a subject names, and with it the function.

    Raises:
        ValueError: it is not FUNCTION/FORMULATION, or names an unknown function or implementation.
    """
    function, slash, formulation = subject.partition("/")
    if not slash:
        raise UsageError(f"subject={subject!r}: expected FUNCTION/FORMULATION, such as xielu/naive")
    return resolve(formulation, get_function(function), FP32)


def spelled(implementation: Implementation) -> str:
    """The formulation, with its execution where that is not eager: what `implementations.resolve` takes."""
    return labelled(implementation.name, implementation.execution.name)


__all__ = ["implementation_of", "spelled"]
