"""Transformer Engine's activation kernels, with and without its fused FP8 quantisation.

The home of transformer-engine, which is imported when one of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.family import WIDE

# Its name of each kernel; its gelu is the tanh form.
_KERNELS = {"relu2": "srelu", "gelu_tanh": "gelu", "silu": "silu", "swiglu": "swiglu"}
_FP8 = {"e4m3": ("kFloat8E4M3", "float8_e4m3fn"), "e5m2": ("kFloat8E5M2", "float8_e5m2")}


def library() -> Any:
    """Its compiled module.

    Raises:
        KernelError: it is not installed, or does not load on this machine.
    """
    try:
        import transformer_engine.pytorch  # noqa: F401 - loads the shared library
        import transformer_engine_torch
    except (ImportError, OSError, RuntimeError) as error:
        raise KernelError(
            "missing_dependency",
            f"Transformer Engine is not installed or does not load ({type(error).__name__}: {error}); "
            "`pip install precision-lab[te]` on a machine with CUDA",
        ) from error
    return transformer_engine_torch


def quantizer(fmt: str, device: torch.device) -> Any:
    """Its quantizer to an FP8 format with a scale of 1."""
    tex = library()
    from transformer_engine.pytorch.tensor.float8_tensor import Float8Quantizer

    return Float8Quantizer(
        scale=torch.ones(1, device=device), amax=torch.zeros(1, device=device),
        fp8_dtype=getattr(tex.DType, _FP8[fmt][0]), rowwise=True, columnwise=False,
    )  # fmt: skip


def stored(tensor: Any, fmt: str) -> Tensor:
    """The bytes of its FP8 tensor as a torch float8 tensor."""
    data: Tensor = tensor._data
    return data.view(getattr(torch, _FP8[fmt][1]))


def _function(name: str) -> Any:
    found = getattr(library(), name, None)
    if found is None:
        raise KernelError("missing_dependency", f"this release of Transformer Engine has no {name}")
    return found


class _Activation(torch.autograd.Function):
    """x, and b for a gated one, in rows, as its kernels want them."""

    @staticmethod
    def forward(ctx: Any, name: str, fmt: str | None, x: Tensor, b: Tensor | None) -> Tensor:
        rows = x.reshape(1, -1)
        given = rows if b is None else torch.cat([rows, b.expand(x.shape).reshape(1, -1)], dim=1)
        ctx.save_for_backward(given)
        ctx.how = (name, x.shape, None if b is None else b.shape)
        y = _function(name)(given, None if fmt is None else quantizer(fmt, x.device))
        return (y if fmt is None else stored(y, fmt)).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = ctx.saved_tensors
        name, shape, b_shape = ctx.how
        gradient = _function(f"d{name}")(dy.reshape(1, -1).contiguous(), given, None)
        n = dy.numel()
        d_b = None if b_shape is None else gradient[:, n:].reshape(shape).sum_to_size(b_shape)
        return None, None, gradient[:, :n].reshape(shape), d_b


def _kernel(name: str, fmt: str | None, x: Tensor, *, b: Tensor | None = None) -> Tensor:
    result: Tensor = _Activation.apply(name, fmt, x, b)  # type: ignore[no-untyped-call]
    return result


def _all() -> Iterator[Implementation]:
    for function, name in _KERNELS.items():
        yield Implementation(
            "transformer-engine", function, partial(_kernel, name, None), "te", WIDE, "fp32",
            f"transformer_engine_torch.{name}", devices=("cuda",), capability=(8, 0),
        )  # fmt: skip
        for fmt in _FP8:
            yield Implementation(
                f"transformer-engine to {fmt}", function, partial(_kernel, name, fmt), "te", WIDE, "fp32",
                f"transformer_engine_torch.{name} with fused quantisation to {fmt.upper()}, scale 1",
                saturating=True, outputs=("forward",), devices=("cuda",), capability=(8, 9), storage=fmt,
            )  # fmt: skip


IMPLEMENTATIONS = tuple(_all())
