"""Liger's Triton activations, each a TARGET."""

from __future__ import annotations

import torch
from adapter_rows import halves, rows


def silu_mul(x, b):
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return LigerSiLUMulFunction.apply(rows(x), rows(b.expand(x.shape))).reshape(x.shape)


def fused_gate_up_silu_mul(x, b):
    from liger_kernel.ops.swiglu import LigerFusedGateUpSiLUMulFunction

    return LigerFusedGateUpSiLUMulFunction.apply(halves(x, b)).reshape(x.shape)


def gelu_mul(x, b):
    from liger_kernel.ops.geglu import LigerGELUMulFunction

    return LigerGELUMulFunction.apply(rows(x), rows(b.expand(x.shape))).reshape(x.shape)


def relu_squared(x):
    from liger_kernel.ops.relu_squared import LigerReLUSquaredFunction

    return LigerReLUSquaredFunction.apply(rows(x)).reshape(x.shape)


def dyt(x):
    """With α = 1, γ = 1 and no β it is tanh."""
    from liger_kernel.ops.dyt import LigerDyTFunction

    given = rows(x)
    alpha = torch.ones(1, dtype=x.dtype, device=x.device)
    gamma = torch.ones(given.shape[-1], dtype=x.dtype, device=x.device)
    return LigerDyTFunction.apply(given, alpha, gamma, None).reshape(x.shape)
