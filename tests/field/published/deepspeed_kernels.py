"""DeepSpeed's Triton activations, each a TARGET."""

from __future__ import annotations

import math

import torch

WIDTH = 1024  # columns of a row, where the length allows


def gelu(x):
    from deepspeed.ops.transformer.inference.triton.gelu import gelu as kernel

    return kernel(x.contiguous())


def swiglu(x, b):
    from deepspeed.ops.triton_ops.swiglu_triton import swiglu as kernel

    return kernel(x, b.expand(x.shape))


def swiglu_packed(x, b):
    from deepspeed.ops.triton_ops.swiglu_triton import swiglu_packed as kernel

    width = math.gcd(x.numel(), WIDTH)
    b = b.expand(x.shape)
    halves = torch.cat((x.reshape(-1, width), b.reshape(-1, width)), dim=-1)
    return kernel(halves).reshape(x.shape)
