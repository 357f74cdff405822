"""A kernel that is not torch's, behind the convention of all others; what its signature takes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from precision_lab.exceptions import UsageError, nearest
from precision_lab.formats import BF16, E4M3, E5M2, FP16, FP32, FP64, FloatFormat
from precision_lab.functions import Activation

_OTHERWISE = "rename it, give it a default, or fix it with functools.partial"

FORMATS = (FP64, FP32, BF16, FP16, E4M3, E5M2)


@dataclass(frozen=True)
class Foreign:
    """A foreign kernel behind the convention of all others.

    Attributes:
        kernel: `kernel(x, **params) -> y` on tensors, differentiable where the kernel has gradients.
        outputs: those it can give.
        parameters: those it takes.
        formats: input formats it takes.
    """

    kernel: Callable[..., Any]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    formats: tuple[FloatFormat, ...] = FORMATS


def accepted(kernel: Any, function: Activation) -> tuple[str, ...] | None:
    """The function's parameters that a kernel takes by name; None where it takes any.

    Raises:
        ValueError: it needs an argument beyond x that the function does not have.
    """
    known = [p.name for p in function.parameters]
    try:
        arguments = list(inspect.signature(kernel).parameters.values())
    except (TypeError, ValueError):  # built in: what it takes cannot be read
        return ()
    rest = arguments[1:]
    if arguments and arguments[0].kind is inspect.Parameter.VAR_POSITIONAL:
        rest = arguments
    taken = []
    for argument in rest:
        if argument.kind is inspect.Parameter.VAR_KEYWORD:
            return () if _is_ufunc(kernel) else None
        if argument.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        by_name = argument.kind is not inspect.Parameter.POSITIONAL_ONLY
        if argument.name in known and by_name:
            taken.append(argument.name)
        elif argument.default is inspect.Parameter.empty:
            has = ", ".join(known) or "no parameters"
            hint = "" if by_name else " by position only; parameters are given by name"
            near = nearest(argument.name, known)
            meant = f"did you mean {', '.join(near)}?" if near and by_name else _OTHERWISE
            raise UsageError(
                f"TARGET wants an argument {argument.name!r}{hint} that {function.name} does not have; "
                f"it has {has}; {meant}"
            )
    return tuple(taken)


def _is_ufunc(kernel: Any) -> bool:
    """Whose `**kwargs` are where= and dtype=, not parameters."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(kernel, numpy.ufunc)
