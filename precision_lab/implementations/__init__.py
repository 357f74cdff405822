"""Implementations under test and their registry. Importing this loads torch."""

from __future__ import annotations

from typing import Any

from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations import (
    ablations,
    builtin,
    cuda,
    operators,
    transformer_engine,
    transformers_xielu,
    triton,
    xielu,
    xiprelu,
)
from precision_lab.implementations.adapters.any_callable import as_implementation, from_cuda, from_library
from precision_lab.implementations.adapters.module import from_module
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.family import executions
from precision_lab.registry import Registry
from precision_lab.results.execution import EAGER, EXECUTIONS, Execution, spaced

__all__ = [
    "EXECUTIONS",
    "IMPLEMENTATIONS",
    "Implementation",
    "as_implementation",
    "from_cuda",
    "from_library",
    "from_module",
    "get_execution",
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
        *transformers_xielu.IMPLEMENTATIONS,
        *executions(xiprelu.FORMULATIONS, fp8=True),
        *executions(builtin.FORMULATIONS, fp8=False),
        *executions(ablations.FORMULATIONS, fp8=False, compiled=False),
        *executions(operators.FORMULATIONS, fp8=False),
        *triton.IMPLEMENTATIONS,
        *cuda.IMPLEMENTATIONS,
        *transformer_engine.IMPLEMENTATIONS,
    ),
    key=lambda i: f"{i.function.name} {i.label}",
)


def get_execution(execution: str | Execution) -> Execution:
    """The execution of that name.

    Raises:
        ValueError: no such one; names the nearest.
    """
    return EXECUTIONS.get(execution)


def implementations_for(
    function: Activation, execution: Execution | None = None
) -> tuple[Implementation, ...]:
    """Registered implementations of a function, all executions or one."""
    return tuple(
        i for i in IMPLEMENTATIONS.values() if i.function == function and execution in (None, i.execution)
    )


def get_implementation(
    function: Activation, name: str, execution: str | Execution = EAGER, *, saturating: bool = False
) -> Implementation:
    """The registered implementation of that name.

    Raises:
        ValueError: no such one, or no such execution; names the nearest.
    """
    execution = get_execution(execution)
    found = implementations_for(function, execution)
    # Of two that only saturating tells apart the one that was asked for is the later; of those that only
    # Inductor's settings tell apart, the one of its defaults.
    by_name = {i.name: i for i in sorted(found, key=lambda i: (i.saturating == saturating, not i.inductor))}
    kind = f"{execution.name} implementation of {function.name}"
    return Registry(kind, Implementation, by_name.values()).get(name)


def resolve(kernel: Any, function: Activation, fmt: FloatFormat) -> Implementation:
    """An `Implementation` as it is, by registered name ("naive", "stable [upcast]"), or from a callable."""
    if isinstance(kernel, Implementation):
        return kernel
    if isinstance(kernel, str):
        if (exact := IMPLEMENTATIONS.get(f"{function.name} {spaced(kernel)}", None)) is not None:
            return exact
        name, _, execution = kernel.partition(" [")
        return get_implementation(function, name, execution.rstrip("]") or "eager")
    return as_implementation(kernel, function, (fmt,))
