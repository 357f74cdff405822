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


# -- quantisers --------------------------------------------------------------------------------


def silu_and_mul_fp8(x):
    """SiLU of x times 1, as E4M3 with the scale 1 that is given: what a code is of x alone."""
    from flashinfer.triton.activation import silu_and_mul as kernel

    scale = torch.ones(1, dtype=torch.float32, device=x.device)
    halves = torch.cat((x, torch.ones_like(x)), dim=-1)
    return kernel(halves, o_scale=scale, dtype=torch.float8_e4m3fn), scale
