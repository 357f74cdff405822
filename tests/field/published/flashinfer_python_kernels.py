"""FlashInfer's Triton activations and casts. They have no backward kernels."""

from __future__ import annotations

import torch
from adapter_rows import halves


def silu_and_mul(x, b):
    from flashinfer.triton.activation import silu_and_mul as kernel

    return kernel(halves(x, b)).reshape(x.shape)


def silu_and_mul_scaled(x, b):
    """Scaled by 1 and clamped to the format's numbers, as its FP8 results are."""
    from flashinfer.triton.activation import silu_and_mul as kernel

    scale = torch.ones(1, dtype=torch.float32, device=x.device)
    return kernel(halves(x, b), o_scale=scale, dtype=x.dtype).reshape(x.shape)
