"""Tensors to numpy arrays and back, bit by bit, and a foreign kernel as an autograd function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.system.extras import install_line

Arrays = Mapping[str, NDArray[Any]]

# torch dtypes that numpy has no name for: their integers of the same width, and ml_dtypes' name.
_NAMED = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
}


def to_array(tensor: Tensor) -> NDArray[Any]:
    """The same elements, strides and memory as a numpy array.

    Raises:
        KernelError: ml_dtypes is needed for the dtype and not installed.
    """
    tensor = tensor.detach()
    if tensor.dtype not in _NAMED:
        found: NDArray[Any] = tensor.numpy()
        return found
    integer, name = _NAMED[tensor.dtype]
    named: NDArray[Any] = tensor.view(integer).numpy().view(_ml_dtype(name))
    return named


def to_tensor(array: Any, kernel: str) -> Tensor:
    """A tensor with the elements of an array, in memory of its own.

    Raises:
        TypeError: it is no array, or of a dtype that torch does not have.
    """
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"the result of {kernel} is a {type(array).__name__}, not an array")
    array = np.array(array)
    for dtype, (integer, name) in _NAMED.items():
        if array.dtype.name == name:
            bits: Tensor = torch.from_numpy(array.view(f"int{8 * array.itemsize}"))
            return bits.view(integer).view(dtype)
    return torch.from_numpy(array)


def _ml_dtype(name: str) -> Any:
    try:
        import ml_dtypes
    except ImportError as error:
        raise KernelError(
            "missing_dependency", f"{name} arrays need ml_dtypes; {install_line('numpy')}"
        ) from error
    return np.dtype(getattr(ml_dtypes, name))


@dataclass(frozen=True)
class Bridge:
    """What a foreign kernel gives, as functions of numpy arrays.

    Attributes:
        names: parameters it takes, in order.
        forward: `forward(x, params) -> y`.
        gradients: `gradients(x, upstream, params, wanted) -> {name: gradient}`, of x's or of the
            parameter's shape; the difference is summed in float64.
    """

    label: str
    names: tuple[str, ...]
    forward: Callable[[NDArray[Any], Arrays], Any]
    gradients: Callable[[NDArray[Any], NDArray[Any], Arrays, Collection[str]], Mapping[str, Any]]

    def __call__(self, x: Tensor, **params: Tensor) -> Tensor:
        result: Tensor = _Function.apply(self, x, *(params[name] for name in self.names))  # type: ignore[no-untyped-call]
        return result


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bridge: Bridge, x: Tensor, *params: Tensor) -> Tensor:
        ctx.bridge = bridge
        ctx.save_for_backward(x, *params)
        arrays = dict(zip(bridge.names, map(to_array, params), strict=True))
        return to_tensor(bridge.forward(to_array(x), arrays), bridge.label)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        bridge: Bridge = ctx.bridge
        x, *params = ctx.saved_tensors
        arrays = dict(zip(bridge.names, map(to_array, params), strict=True))
        sources = {"x": x, **dict(zip(bridge.names, params, strict=True))}
        wanted = [name for name, needed in zip(sources, ctx.needs_input_grad[1:], strict=True) if needed]
        found = bridge.gradients(to_array(x), to_array(upstream), arrays, wanted)
        return None, *(
            _like(to_tensor(found[name], bridge.label), source) if name in found else None
            for name, source in sources.items()
        )


def _like(gradient: Tensor, source: Tensor) -> Tensor:
    if gradient.shape == source.shape or source.numel() > 1:
        return gradient
    return gradient.double().sum().reshape(source.shape).to(gradient.dtype)
