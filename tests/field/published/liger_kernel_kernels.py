"""Liger's Triton activations, each a TARGET."""

from __future__ import annotations

import math

import torch

WIDTH = 1024  # columns of a row, where the length allows


def _rows(x):
    return x.reshape(-1, math.gcd(x.numel(), WIDTH))


def silu_mul(x, b):
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return LigerSiLUMulFunction.apply(_rows(x), _rows(b.expand(x.shape))).reshape(x.shape)


def fused_gate_up_silu_mul(x, b):
    from liger_kernel.ops.swiglu import LigerFusedGateUpSiLUMulFunction

    halves = torch.cat((_rows(x), _rows(b.expand(x.shape))), dim=-1)
    return LigerFusedGateUpSiLUMulFunction.apply(halves).reshape(x.shape)


def gelu_mul(x, b):
    from liger_kernel.ops.geglu import LigerGELUMulFunction

    return LigerGELUMulFunction.apply(_rows(x), _rows(b.expand(x.shape))).reshape(x.shape)


def relu_squared(x):
    from liger_kernel.ops.relu_squared import LigerReLUSquaredFunction

    return LigerReLUSquaredFunction.apply(_rows(x)).reshape(x.shape)


def dyt(x):
    """With α = 1, γ = 1 and no β it is tanh."""
    from liger_kernel.ops.dyt import LigerDyTFunction

    rows = _rows(x)
    alpha = torch.ones(1, dtype=x.dtype, device=x.device)
    gamma = torch.ones(rows.shape[-1], dtype=x.dtype, device=x.device)
    return LigerDyTFunction.apply(rows, alpha, gamma, None).reshape(x.shape)
