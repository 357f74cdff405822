"""Numbers of a format as tensors and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.formats import FloatFormat
from precision_lab.formats.torch_types import torch_dtype

Float64 = NDArray[np.float64]
# By the width in which codes are stored: what torch makes of them is viewed as a dtype of its own.
_SIGNED = {8: np.uint8, 16: np.int16, 32: np.int32, 64: np.int64}
_INTEGERS = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def to_tensor(values: Float64, fmt: FloatFormat) -> Tensor:
    """A tensor of the format with exactly these values; NaN as the canonical one, −0 kept."""
    dtype = torch_dtype(fmt)
    bits = fmt.encode(np.asarray(values, np.float64)).view(_SIGNED[fmt.storage_bits])
    return torch.from_numpy(bits.copy()).view(dtype)


def to_array(tensor: Tensor, fmt: FloatFormat) -> Float64:
    """Exact float64 values of a tensor of the format."""
    integer = _INTEGERS[fmt.storage_bits]
    bits = tensor.detach().contiguous().cpu().view(integer).numpy().view(fmt.bits_dtype)
    return fmt.decode(bits)


def from_bits(bits: NDArray[Any], fmt: FloatFormat) -> Tensor:
    """A tensor of the format with these bit patterns, in memory of its own."""
    dtype = torch_dtype(fmt)
    return torch.from_numpy(bits.astype(fmt.bits_dtype).view(_SIGNED[fmt.storage_bits]).copy()).view(dtype)


@lru_cache(maxsize=8)
def _decoded(fmt: FloatFormat) -> NDArray[np.float32]:
    """Every number of a format of up to 16 bits, by pattern; float32 holds them all."""
    return fmt.decode(fmt.all_bits()).astype(np.float32)


def to_numpy(tensor: Tensor, fmt: FloatFormat) -> NDArray[Any]:
    """Exact values of a tensor of the format: float64 for fp64, float32 for all others."""
    tensor = tensor.detach().contiguous().cpu()
    if fmt.bits >= 32:
        return tensor.numpy()
    bits = tensor.view(_INTEGERS[fmt.storage_bits]).numpy().view(fmt.bits_dtype)
    values: NDArray[Any] = _decoded(fmt)[bits]
    return values


def store(tensor: Tensor, fmt: FloatFormat, *, saturating: bool) -> Tensor:
    """Cast to an FP8 format with its overflow behaviour spelt out.

    Releases of torch differ in what a cast of an overflowing number gives, so that is
    decided here: the largest finite number, or infinity, or NaN where there is none.
    """
    wide = tensor.float()
    clamped = wide.clamp(-fmt.max_finite, fmt.max_finite)
    stored = clamped.to(torch_dtype(fmt))
    if saturating:
        return stored
    threshold = fmt.overflow_threshold
    # A tie at the threshold rounds to even: up where the largest significand is odd.
    over = wide.abs() >= threshold if fmt.max_significand % 2 else wide.abs() > threshold
    beyond = torch.copysign(torch.full_like(wide, torch.inf if fmt.has_infinity else torch.nan), wide)
    return torch.where(over, beyond.to(torch_dtype(fmt)), stored)


def patterns_on_device(fmt: FloatFormat, first: int, count: int, device: torch.device) -> Tensor:
    """A tensor of the format with `count` patterns from `first` on, made on the device."""
    integer = _INTEGERS[fmt.storage_bits]
    # Narrowing an integer keeps its low bits.
    return torch.arange(first, first + count, device=device).to(integer).view(torch_dtype(fmt))
