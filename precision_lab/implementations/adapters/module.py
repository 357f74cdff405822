"""Wraps a user's own `torch.nn.Module`.

    from_module(lambda params, dtype: MyXIELU(...).to(dtype), "xielu",
                leaves={"alpha_p": "alpha_p", "alpha_n": "alpha_n"})

`leaves` says which of the module's parameters is which argument of the function: a name
such as "alpha_p" for an effective value, "raw_alpha_p" for one behind softplus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from precision_lab.exceptions import unknown_name
from precision_lab.formats import BF16, FP16, FP32, FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation, Kernel, PartlyCompiled
from precision_lab.results.execution import COMPILED, MODULE

Factory = Callable[[Mapping[str, float], torch.dtype], torch.nn.Module]


def _functional(module: torch.nn.Module, replaced: dict[str, Tensor], x: Tensor) -> Any:
    return torch.func.functional_call(module, replaced, (x,))


class _ModuleKernel(PartlyCompiled):
    """Calls a module with tensors in the place of its parameters.

    Attributes:
        module: the one whose buffers the next call uses; it is moved to where x is, and then called.
    """

    module: torch.nn.Module

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def __call__(self, x: Tensor, **tensors: Tensor) -> Any:
        return self._called(_functional, x, tensors)

    def compiled_by(self, compile_: Callable[[Kernel], Kernel]) -> Kernel:
        run = compile_(_functional)
        return lambda x, **tensors: self._called(run, x, tensors)

    def _called(self, run: Kernel, x: Tensor, tensors: Mapping[str, Tensor]) -> Any:
        replaced = {self._names[argument]: tensor for argument, tensor in tensors.items()}
        return run(self.module.to(x.device), replaced, x)


def from_module(
    factory: Factory,
    function: Activation,
    *,
    leaves: Mapping[str, str] | None = None,
    name: str = "module",
    formats: tuple[FloatFormat, ...] = (FP32, BF16, FP16),
    effective: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    description: str = "a user's module",
    compiled: bool = False,
    inductor: tuple[tuple[str, Any], ...] = (),
) -> Implementation:
    """An implementation that runs a module as its users do, in its own dtype.

    Args:
        factory: `factory(params, dtype) -> module` with these effective parameters.
        leaves: argument name → name of the module's parameter. Each gets an output
            `grad_<argument>`; per-element gradients come from `torch.func.functional_call`
            with the parameter replaced by an x-shaped tensor.
        effective: reads the effective parameters off a module; by default those asked for,
            rounded to the module's dtype.
        compiled: through torch.compile.
        inductor: the settings that it is then compiled with.
    """
    names = dict(leaves or {})

    def module_for(params: Mapping[str, float], fmt: FloatFormat) -> torch.nn.Module:
        return factory(params, torch_dtype(fmt))

    kernel = _ModuleKernel(names)

    def make_leaves(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, Tensor]:
        module = kernel.module = module_for(params, fmt)
        own = dict(module.named_parameters())
        for parameter in names.values():
            if parameter not in own:
                raise unknown_name(f"parameter of {type(module).__name__}", parameter, own)
        return {argument: own[parameter].detach().clone() for argument, parameter in names.items()}

    def read(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, float]:
        module = module_for(params, fmt)
        if effective is not None:
            return {**params, **effective(module)}
        dtype = torch_dtype(fmt)
        return {key: float(torch.tensor(value, dtype=dtype)) for key, value in params.items()}

    return Implementation(
        name=name,
        function=function,
        kernel=kernel,
        execution=COMPILED if compiled else MODULE,
        inductor=inductor,
        owns_parameters=True,
        formats=formats,
        compute_dtype="as the module chooses",
        description=description,
        outputs=("forward", "grad_x", *(f"grad_{argument}" for argument in names)),
        leaves=make_leaves,
        effective=read,
    )
