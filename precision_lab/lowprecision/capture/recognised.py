"""Which activation a module, or a captured layer, is, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from precision_lab.exceptions import UsageError
from precision_lab.functions import (
    ELU,
    FUNCTIONS,
    GELU,
    GELU_TANH,
    MISH,
    RELU,
    RELU2,
    SELU,
    SILU,
    SWIGLU,
    XIELU,
    XIPRELU,
    Activation,
    Parameter,
    get_function,
)
from precision_lab.functions.loading import names_file
from precision_lab.lowprecision.capture.counts import Layer

# Activation modules by class name: of torch, of Hugging Face transformers, and the lab's own.
MODULES: Mapping[str, Activation] = {
    "XIELU": XIELU,
    "XIELUActivation": XIELU,
    "XIPReLU": XIPRELU,
    "SiLU": SILU,
    "SiLUActivation": SILU,
    "GELU": GELU,
    "GELUActivation": GELU,
    "NewGELUActivation": GELU_TANH,
    "FastGELUActivation": GELU_TANH,
    "PytorchGELUTanh": GELU_TANH,
    "GELUTanh": GELU_TANH,
    "ReLU": RELU,
    "ReLUSquaredActivation": RELU2,
    "ReLU2": RELU2,
    "Mish": MISH,
    "MishActivation": MISH,
    "ELU": ELU,
    "SELU": SELU,
}
# What a gated layer computes in which such a module stands: it multiplies by the gate itself.
GATED_FORMS: Mapping[Activation, Activation] = {SILU: SWIGLU}
# The name of an activation in a model whose class is none of these.
NAMES = ("act_fn", "act", "activation", "activation_fn")


def parameters_of(module: nn.Module, function: Activation | None) -> dict[str, float]:
    """Effective parameters: what the module says, or as torch and Hugging Face keep them.

    Raises:
        ValueError: one is not a single number; names it.
    """
    tell: Any = getattr(module, "effective_parameters", None)
    if tell is not None:
        found = {}
        for name, value in tell().items():
            value = torch.as_tensor(value).detach()
            if value.numel() != 1:
                raise UsageError(
                    f"its parameter {name!r} has shape {tuple(value.shape)}; expected one number"
                )
            found[name] = float(value)
        return found
    if isinstance(module, nn.ELU):
        return {"alpha": float(module.alpha)}
    wanted = () if function is None else function.parameters
    kept: dict[str, Any] = {p.name: getattr(module, p.name, None) for p in wanted}
    if not any(p.raw == "softplus" for p in wanted) or not all(
        isinstance(value, Tensor) for value in kept.values()
    ):
        return {}
    return {p.name: _effective(p, kept) for p in wanted}


def _effective(parameter: Parameter, kept: Mapping[str, Tensor]) -> float:
    """What the formulas use of a parameter that a module keeps raw."""
    value = kept[parameter.name].detach().double()
    if parameter.raw not in ("softplus", "softplus+beta"):
        return float(value.mean())
    found = float(nn.functional.softplus(value).mean())
    return float(kept["beta"].detach().double().mean()) + found if parameter.raw == "softplus+beta" else found


def function_of(module: nn.Module) -> tuple[str, Activation | None]:
    """Name and definition of what a module computes: as it says, or by its class; "" and None if unknown.

    A module may give a name that is none of the lab's; of a user's own function the name is FILE:NAME, by
    which another process finds it.
    """
    told = getattr(module, "precision_lab_function", "")
    if isinstance(told, Activation):
        return told.home or told.name, told
    if isinstance(told, str) and told:
        return told, get_function(told) if names_file(told) else FUNCTIONS.get(told, None)
    if isinstance(module, nn.GELU):
        found: Activation | None = GELU_TANH if module.approximate == "tanh" else GELU
    else:
        found = MODULES.get(type(module).__name__)
    return ("", None) if found is None else (found.name, found)


def activation_of(layer: Layer) -> Activation:
    """The activation that a captured layer names, which takes the parameters that the layer has.

    Raises:
        ValueError: none of the lab's, or other parameters.
    """
    if not layer.function:
        why = f": {layer.notes[-1]}" if layer.notes else ""
        raise UsageError(f"its activation {layer.module} is none of precision_lab's functions{why}")
    function = get_function(layer.function)
    function.check_params(layer.params)
    return function


__all__ = ["GATED_FORMS", "MODULES", "NAMES", "activation_of", "function_of", "parameters_of"]
