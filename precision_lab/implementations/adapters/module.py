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
from precision_lab.implementations.base import Implementation
from precision_lab.results.execution import MODULE

Factory = Callable[[Mapping[str, float], torch.dtype], torch.nn.Module]


def from_module(
    factory: Factory,
    function: Activation,
    *,
    leaves: Mapping[str, str] | None = None,
    name: str = "module",
    formats: tuple[FloatFormat, ...] = (FP32, BF16, FP16),
    effective: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    description: str = "a user's module",
) -> Implementation:
    """An implementation that runs a module as its users do, in its own dtype.

    Args:
        factory: `factory(params, dtype) -> module` with these effective parameters.
        leaves: argument name → name of the module's parameter. Each gets an output
            `grad_<argument>`; per-element gradients come from `torch.func.functional_call`
            with the parameter replaced by an x-shaped tensor.
        effective: reads the effective parameters off a module; by default those asked for,
            rounded to the module's dtype.
    """
    names = dict(leaves or {})

    def module_for(params: Mapping[str, float], fmt: FloatFormat) -> torch.nn.Module:
        return factory(params, torch_dtype(fmt))

    current: dict[str, Any] = {}  # the module whose buffers the next call uses

    def make_leaves(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, Tensor]:
        module = current["module"] = module_for(params, fmt)
        own = dict(module.named_parameters())
        for parameter in names.values():
            if parameter not in own:
                raise unknown_name(f"parameter of {type(module).__name__}", parameter, own)
        return {argument: own[parameter].detach().clone() for argument, parameter in names.items()}

    def kernel(x: Tensor, **tensors: Tensor) -> Tensor:
        replaced = {names[argument]: tensor for argument, tensor in tensors.items()}
        module = current["module"].to(x.device)
        result: Tensor = torch.func.functional_call(module, replaced, (x,))
        return result

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
        execution=MODULE,
        formats=formats,
        compute_dtype="as the module chooses",
        description=description,
        outputs=("forward", "grad_x", *(f"grad_{argument}" for argument in names)),
        leaves=make_leaves,
        effective=read,
    )
