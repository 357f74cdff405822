"""Which activation a call of torch's is, where a model calls a function in place of a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.functions import ELU, GELU, GELU_TANH, MISH, RELU, SELU, SILU, Activation

ACTIVATIONS: Mapping[Callable[..., Any], Activation] = {
    F.silu: SILU,
    F.gelu: GELU,  # or its tanh form: `call_of` tells by the argument
    F.relu: RELU,
    torch.relu: RELU,
    torch.relu_: RELU,
    Tensor.relu: RELU,
    Tensor.relu_: RELU,
    F.mish: MISH,
    F.elu: ELU,
    F.selu: SELU,
    torch.selu: SELU,
}
PRODUCTS = frozenset({F.linear})
MULTIPLICATIONS = frozenset({torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__})
# What an activation that is written out by hand, or one that the lab has no table entry for, is made of.
BY_HAND: Mapping[Callable[..., Any], str] = {
    torch.sigmoid: "torch.sigmoid",
    Tensor.sigmoid: "Tensor.sigmoid",
    F.sigmoid: "F.sigmoid",
    torch.tanh: "torch.tanh",
    Tensor.tanh: "Tensor.tanh",
    F.tanh: "F.tanh",
    torch.erf: "torch.erf",
    Tensor.erf: "Tensor.erf",
    torch.expm1: "torch.expm1",
    Tensor.expm1: "Tensor.expm1",
    F.glu: "F.glu",
    F.softplus: "F.softplus",
    F.hardswish: "F.hardswish",
    F.leaky_relu: "F.leaky_relu",
    F.prelu: "F.prelu",
    F.celu: "F.celu",
    F.relu6: "F.relu6",
    F.multi_head_attention_forward: "F.multi_head_attention_forward",
}


@dataclass(frozen=True)
class Call:
    """One call of an activation.

    Attributes:
        name: as it is written, such as "F.silu".
        function, params: what it computes.
        x: its input.
    """

    name: str
    function: Activation
    params: Mapping[str, float]
    x: Tensor


def call_of(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call | None:
    """The activation that a call of torch's computes; None for any other call."""
    function = ACTIVATIONS.get(func)
    x = args[0] if args else kwargs.get("input")
    if function is None or not isinstance(x, Tensor):
        return None
    name, params = function.name, {}
    if function is GELU and kwargs.get("approximate", "none") == "tanh":
        function = GELU_TANH
    if function is ELU:
        params["alpha"] = float(kwargs.get("alpha", args[1] if len(args) > 1 else 1.0))
    return Call(name, function, params, x)


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The first tensor that a module or a call was given."""
    return next((t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)), None)


__all__ = ["ACTIVATIONS", "BY_HAND", "MULTIPLICATIONS", "PRODUCTS", "Call", "call_of", "first_tensor"]
