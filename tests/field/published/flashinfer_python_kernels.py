"""FlashInfer's Triton activations and casts. They have no backward kernels."""

from __future__ import annotations

import math

import torch

WIDTH = 1024  # columns of a row, where the length allows


def silu_and_mul(x, b):
    from flashinfer.triton.activation import silu_and_mul as kernel

    width = math.gcd(x.numel(), WIDTH)
    b = b.expand(x.shape)
    halves = torch.cat((x.reshape(-1, width), b.reshape(-1, width)), dim=-1)
    return kernel(halves).reshape(x.shape)


def silu_and_mul_scaled(x, b):
    """Scaled by 1 and clamped to the format's numbers, as its FP8 results are."""
    from flashinfer.triton.activation import silu_and_mul as kernel

    width = math.gcd(x.numel(), WIDTH)
    b = b.expand(x.shape)
    halves = torch.cat((x.reshape(-1, width), b.reshape(-1, width)), dim=-1)
    scale = torch.ones(1, dtype=torch.float32, device=x.device)
    return kernel(halves, o_scale=scale, dtype=x.dtype).reshape(x.shape)
