"""Kernels that are not torch's, as torch callables: numpy, JAX, MLX, C, and CUDA in a file."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from precision_lab.functions import Activation
from precision_lab.implementations.adapters.foreign_kernel import Foreign, accepted
from precision_lab.results.execution import ARRAYS
from precision_lab.results.hints import COMPUTES_WITH


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


def foreign_hint(kernel: Any) -> str:
    """The end of a message about a torch kernel that failed, where its code has arrays of another framework.

    Looked at are the modules that its code and the functions beside it name.
    """
    roots = _named_libraries(kernel)
    found = [name for name in ARRAYS if name in roots]
    if not found or "torch" in roots:
        return ""
    # JAX's and MLX's users have numpy at hand as well.
    return f"; {COMPUTES_WITH.format(framework=found[-1])}"


def _named_libraries(kernel: Any) -> set[str]:
    """The packages that a function's code names, through functions of its own file."""
    while isinstance(kernel, partial):
        kernel = kernel.func
    seen: set[int] = set()
    roots: set[str] = set()
    open_ones = [inspect.unwrap(kernel) if callable(kernel) else kernel]
    while open_ones:
        function = open_ones.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        for name in _names_in(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, FunctionType) and value.__globals__ is function.__globals__:
                open_ones.append(value)
            elif value is not None:
                home = value.__name__ if isinstance(value, ModuleType) else _home(value)
                roots.add(home.partition(".")[0])
    return roots


def _home(value: Any) -> str:
    return getattr(value, "__module__", None) or type(value).__module__


def _names_in(code: CodeType) -> set[str]:
    inner = (_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def wrap(kernel: Any, framework: str, function: Activation, *, siblings: Callable[[str], Any]) -> Foreign:
    """A numpy, JAX or MLX callable `kernel(x, **params) -> y` on that framework's arrays.

    Args:
        siblings: finds `NAME_grad_x(x, upstream, **params)` and so on beside a numpy kernel NAME;
            JAX and MLX differentiate by themselves.

    Raises:
        ValueError: it needs an argument that the function does not have.
        KernelError: the framework is not installed.
    """
    names = accepted(kernel, function)
    if names is None:
        names = tuple(p.name for p in function.parameters)
    if framework == "numpy":
        from precision_lab.implementations.adapters.numpy_kernel import wrap_numpy

        return wrap_numpy(kernel, names, function, siblings)
    if framework == "jax":
        from precision_lab.implementations.adapters.jax_kernel import jax_kernel as differentiable
    else:
        from precision_lab.implementations.adapters.mlx_kernel import mlx_kernel as differentiable
    outputs = ("forward", "grad_x", *(o for o in function.outputs[2:] if o.removeprefix("grad_") in names))
    return Foreign(differentiable(kernel, names), outputs, names)


def wrap_c(path: Path, symbol: str, function: Activation) -> Foreign:
    """A C function; see `c_kernel` for how it is called.

    Raises:
        ValueError: the library cannot be loaded, or has no such symbol.
    """
    from precision_lab.implementations.adapters.c_kernel import wrap_c as wrapped

    return wrapped(path, symbol, function)


def wrap_cuda(path: Path, symbol: str, function: Activation, launch: str) -> Foreign:
    """A kernel of a CUDA C++ or PTX file; see `cuda_kernel` for how it is called.

    Raises:
        ValueError: it is not there, does not compile, or what its parameters stand for is not known.
        ImportError: CUDA C++ cannot be compiled here.
    """
    from precision_lab.implementations.adapters.cuda_kernel import wrap_cuda as wrapped

    return wrapped(path, symbol, function, launch)
