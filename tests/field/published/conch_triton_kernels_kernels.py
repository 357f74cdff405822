"""conch-triton-kernels 1.3: its gated units, each a TARGET, and its quantisers."""

from __future__ import annotations

import torch


def _side_by_side(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of one row, x in its first half and b, which may be one number, in its second."""
    return torch.cat((x.reshape(1, -1), b.expand(x.shape).reshape(1, -1)), dim=-1)


def silu_and_mul(x, b):
    from conch.ops.activation.silu_and_mul import silu_and_mul

    return silu_and_mul(_side_by_side(x, b)).reshape(x.shape)


def gelu_tanh_and_mul(x, b):
    from conch.ops.activation.gelu_tanh_and_mul import gelu_tanh_and_mul

    return gelu_tanh_and_mul(_side_by_side(x, b)).reshape(x.shape)


# -- quantisers: codes and scales -----------------------------------------------------------------


def scaled_fp8_quant(x, scale=0.03125):
    """Of a scale that is given: the package has no other."""
    from conch.ops.quantization.fp8 import scaled_fp8_quant

    return scaled_fp8_quant(x, torch.full((1,), scale, dtype=torch.float32, device=x.device))


def scaled_int8_quant(x, scale=0.03125):
    from conch.ops.quantization.int8 import scaled_int8_quant

    return scaled_int8_quant(x, torch.full((1,), scale, dtype=torch.float32, device=x.device))


def quantize_4bit_fp4(x):
    """Packed two by two, the first of a pair in the upper four bits; codes are of bitsandbytes' table."""
    from conch.ops.quantization.bitsandbytes.functional import quantize_4bit

    codes, state = quantize_4bit(x.contiguous(), blocksize=64, quant_type="fp4")
    return codes, state.absmax


def quantize_4bit_nf4(x):
    from conch.ops.quantization.bitsandbytes.functional import quantize_4bit

    codes, state = quantize_4bit(x.contiguous(), blocksize=64, quant_type="nf4")
    return codes, state.absmax
