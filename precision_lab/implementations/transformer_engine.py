"""Transformer Engine's activation kernels, with and without its fused FP8 quantisation.

The home of transformer-engine, which is imported when one of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import E4M3, E5M2, FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.functions import GELU_TANH, RELU2, SILU, SWIGLU
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.family import WIDE
from precision_lab.results.execution import TRANSFORMER_ENGINE
from precision_lab.system.extras import install_line

# Its name of each kernel; its gelu is the tanh form.
_KERNELS = ((RELU2, "srelu"), (GELU_TANH, "gelu"), (SILU, "silu"), (SWIGLU, "swiglu"))
_FP8 = {E4M3: "kFloat8E4M3", E5M2: "kFloat8E5M2"}  # its name of each format


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
            f"{install_line('te')} on a machine with CUDA",
        ) from error
    return transformer_engine_torch


def quantizer(fmt: FloatFormat, device: torch.device, scale: float = 1.0) -> Any:
    """Its quantizer to an FP8 format with a given scale."""
    tex = library()
    from transformer_engine.pytorch.tensor.float8_tensor import Float8Quantizer

    return Float8Quantizer(
        scale=torch.full((1,), scale, device=device), amax=torch.zeros(1, device=device),
        fp8_dtype=getattr(tex.DType, _FP8[fmt]), rowwise=True, columnwise=False,
    )  # fmt: skip


def quantize(
    x: Tensor,
    fmt: FloatFormat,
    kind: str,
    *,
    power_of_two: bool = False,
    square: bool = False,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """A matrix as its own quantizer stores it row-wise.

    Args:
        x: shape (rows, columns), on a CUDA device.
        fmt: E4M3 or E5M2.
        kind: "tensor" for a given scale (delayed scaling), "current", "block" or "mxfp8".
        power_of_two: whether the scales of "current" and "block" are.
        square: 128×128 blocks in place of 1×128 ones.
        scale: of "tensor".

    Returns:
        codes, uint8, the shape of x; what values are multiplied by after the cast, float32, or E8M0 codes
        for "mxfp8", 0-d or of shape (row blocks, column blocks).

    Raises:
        KernelError: it is not installed.
        ValueError: another kind.
    """
    dtype = getattr(library().DType, _FP8[fmt])
    if kind in ("tensor", "current"):
        from transformer_engine.pytorch.tensor.float8_tensor import Float8CurrentScalingQuantizer

        made = quantizer(fmt, x.device, scale) if kind == "tensor" else Float8CurrentScalingQuantizer(
            dtype, x.device, rowwise=True, columnwise=False, force_pow_2_scales=power_of_two
        )  # fmt: skip
        found = made(x)
        return found._data, found._scale_inv.reshape(())
    rows, columns = x.shape
    if kind == "block":
        from transformer_engine.pytorch.tensor.float8_blockwise_tensor import Float8BlockQuantizer

        found = Float8BlockQuantizer(
            dtype, rowwise=True, columnwise=False, force_pow_2_scales=power_of_two,
            block_scaling_dim=2 if square else 1,
        )(x)  # fmt: skip
        # Padded to multiples of 4; of 1×128 blocks the transpose, as its products read them.
        decode = found._rowwise_scale_inv
        decode = decode if square else decode.t()
        return found._rowwise_data, decode[: -(-rows // 128) if square else rows, : -(-columns // 128)]
    if kind == "mxfp8":
        from transformer_engine.pytorch.tensor.mxfp8_tensor import MXFP8Quantizer

        found = MXFP8Quantizer(dtype, rowwise=True, columnwise=False)(x)
        return found._rowwise_data, found._rowwise_scale_inv[:rows, : -(-columns // 32)]
    raise UsageError(f"kind={kind!r}: expected tensor, current, block or mxfp8")


def stored(tensor: Any, fmt: FloatFormat) -> Tensor:
    """The bytes of its FP8 tensor as a torch float8 tensor."""
    data: Tensor = tensor._data
    return data.view(torch_dtype(fmt))


def _function(name: str) -> Any:
    found = getattr(library(), name, None)
    if found is None:
        raise KernelError("missing_dependency", f"this release of Transformer Engine has no {name}")
    return found


class _Activation(torch.autograd.Function):
    """x, and b for a gated one, in rows, as its kernels want them."""

    @staticmethod
    def forward(ctx: Any, name: str, fmt: FloatFormat | None, x: Tensor, b: Tensor | None) -> Tensor:
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


def _kernel(name: str, fmt: FloatFormat | None, x: Tensor, *, b: Tensor | None = None) -> Tensor:
    result: Tensor = _Activation.apply(name, fmt, x, b)  # type: ignore[no-untyped-call]
    return result


def _all() -> Iterator[Implementation]:
    for function, name in _KERNELS:
        yield Implementation(
            "transformer-engine", function, partial(_kernel, name, None), TRANSFORMER_ENGINE, WIDE, "fp32",
            f"transformer_engine_torch.{name}", devices=(CUDA,), capability=(8, 0),
            import_line=f"from transformer_engine_torch import {name}",
        )  # fmt: skip
        for fmt in _FP8:
            yield Implementation(
                f"transformer-engine to {fmt.name}", function, partial(_kernel, name, fmt),
                TRANSFORMER_ENGINE, WIDE,
                "fp32",
                f"transformer_engine_torch.{name} with fused quantisation to {fmt.name.upper()}, scale 1",
                saturating=True, outputs=("forward",), devices=(CUDA,), capability=(8, 9), storage=fmt,
                import_line=f"from transformer_engine_torch import {name}",
            )  # fmt: skip


IMPLEMENTATIONS = tuple(_all())
