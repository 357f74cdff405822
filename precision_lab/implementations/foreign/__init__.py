"""Kernels that are not torch's, as torch callables: numpy, JAX, MLX, and C in a shared library."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lab.exceptions import UsageError
from precision_lab.functions import Activation, get_function

FORMATS = ("fp64", "fp32", "bf16", "fp16", "e4m3", "e5m2")


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
    formats: tuple[str, ...] = FORMATS


def framework_of(kernel: Any) -> str | None:
    """numpy, jax or mlx where a callable's type or home says so; None for all others."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(kernel, numpy.ufunc):
        return "numpy"
    for place in (type(kernel).__module__, getattr(kernel, "__module__", None) or ""):
        root = place.partition(".")[0]
        if root in ("jax", "jaxlib"):
            return "jax"
        if root in ("mlx", "numpy"):
            return root
    return None


def wrap(kernel: Any, framework: str, function: str, *, siblings: Callable[[str], Any]) -> Foreign:
    """A numpy, JAX or MLX callable `kernel(x, **params) -> y` on that framework's arrays.

    Args:
        siblings: finds `NAME_grad_x(x, upstream, **params)` and so on beside a numpy kernel NAME;
            JAX and MLX differentiate by themselves.

    Raises:
        ValueError: it needs an argument that the function does not have.
        KernelError: the framework is not installed.
    """
    definition = get_function(function)
    names = accepted(kernel, definition)
    if names is None:
        names = tuple(p.name for p in definition.parameters)
    if framework == "numpy":
        from precision_lab.implementations.foreign.numpy_kernel import wrap_numpy

        return wrap_numpy(kernel, names, definition, siblings)
    if framework == "jax":
        from precision_lab.implementations.foreign.jax_kernel import jax_kernel as differentiable
    else:
        from precision_lab.implementations.foreign.mlx_kernel import mlx_kernel as differentiable
    outputs = ("forward", "grad_x", *(o for o in definition.outputs[2:] if o.removeprefix("grad_") in names))
    return Foreign(differentiable(kernel, names), outputs, names)


def wrap_c(path: Path, symbol: str, function: str) -> Foreign:
    """A C function; see `c_kernel` for how it is called.

    Raises:
        ValueError: the library cannot be loaded, or has no such symbol.
    """
    from precision_lab.implementations.foreign.c_kernel import wrap_c as wrapped

    return wrapped(path, symbol, get_function(function))


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
            raise UsageError(
                f"TARGET wants an argument {argument.name!r}{hint} that {function.name} does not have; "
                f"it has {has}"
            )
    return tuple(taken)


def _is_ufunc(kernel: Any) -> bool:
    """Whose `**kwargs` are where= and dtype=, not parameters."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(kernel, numpy.ufunc)
