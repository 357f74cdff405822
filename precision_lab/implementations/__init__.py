"""Implementations under test and their registry. Importing this loads torch."""

from __future__ import annotations

from typing import Any

from precision_lab.exceptions import unknown_name
from precision_lab.implementations import (
    ablations,
    builtin,
    cuda,
    transformer_engine,
    triton,
    xielu,
    xiprelu,
)
from precision_lab.implementations.base import EXECUTIONS, Implementation
from precision_lab.implementations.family import executions
from precision_lab.implementations.module import from_module
from precision_lab.implementations.stranger import as_implementation, from_library
from precision_lab.implementations.transformers_xielu import XIELU_ACTIVATION
from precision_lab.registry import Registry

__all__ = [
    "EXECUTIONS",
    "IMPLEMENTATIONS",
    "Implementation",
    "as_implementation",
    "from_library",
    "from_module",
    "get_implementation",
    "implementations_for",
    "resolve",
]

# By function and label: "xielu stable [upcast]".
IMPLEMENTATIONS = Registry(
    "implementation",
    Implementation,
    (
        *executions(xielu.FORMULATIONS, fp8=True),
        XIELU_ACTIVATION,
        *executions(xiprelu.FORMULATIONS, fp8=True),
        *executions(builtin.FORMULATIONS, fp8=False),
        *executions(ablations.FORMULATIONS, fp8=False, compiled=False),
        *triton.IMPLEMENTATIONS,
        *cuda.IMPLEMENTATIONS,
        *transformer_engine.IMPLEMENTATIONS,
    ),
    key=lambda i: f"{i.function} {i.label}",
)


def implementations_for(function: str, execution: str | None = None) -> tuple[Implementation, ...]:
    """Registered implementations of a function, all executions or one.

    Raises:
        ValueError: an unknown execution; names the nearest.
    """
    if execution is not None and execution not in EXECUTIONS:
        raise unknown_name("execution", execution, EXECUTIONS)
    return tuple(
        i for i in IMPLEMENTATIONS.values() if i.function == function and execution in (None, i.execution)
    )


def get_implementation(
    function: str, name: str, execution: str = "eager", *, saturating: bool = False
) -> Implementation:
    """The registered implementation of that name.

    Raises:
        ValueError: no such one; names the nearest.
    """
    found = implementations_for(function, execution)
    # Of two that only saturating tells apart the one that was asked for is the later.
    by_name = {i.name: i for i in sorted(found, key=lambda i: i.saturating == saturating)}
    return Registry(f"{execution} implementation of {function}", Implementation, by_name.values()).get(name)


def resolve(kernel: Any, function: str, fmt: str) -> Implementation:
    """An `Implementation` as it is, by registered name ("naive", "stable [upcast]"), or from a callable."""
    if isinstance(kernel, Implementation):
        return kernel
    if isinstance(kernel, str):
        name, _, execution = kernel.partition(" [")
        return get_implementation(function, name, execution.rstrip("]") or "eager")
    return as_implementation(kernel, function, (fmt,))
