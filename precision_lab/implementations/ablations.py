"""The ablation variants of xIELU, written with expm1 clamped at 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.functions import (
    XIELU_CUBIC,
    XIELU_FIXED_ALPHA,
    XIELU_NEG_SILU,
    XIELU_NEG_XSILU,
    XIELU_NEG_ZERO,
    XIELU_TRAINABLE_BETA,
    XIPRELU_FIXED_ALPHA,
)
from precision_lab.implementations.family import Formulation
from precision_lab.implementations.xielu import zero_expm1
from precision_lab.implementations.xiprelu import factored


def cubic(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    growth = torch.expm1(torch.clamp(x, max=0.0))
    return torch.where(x > 0, alpha_p * x * x * x + beta * x, alpha_n * growth - alpha_n * x + beta * x)


def negative_xsilu(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return torch.where(x > 0, alpha_p * x * x + beta * x, (1 + 2 * alpha_n) * F.silu(x) - alpha_n * x)


def negative_silu(x: Tensor, *, alpha_p: Tensor, beta: Tensor) -> Tensor:
    return torch.where(x > 0, alpha_p * x * x + beta * x, F.silu(x))


def negative_zero(x: Tensor, *, alpha_p: Tensor, beta: Tensor) -> Tensor:
    return torch.where(x > 0, alpha_p * x * x + beta * x, torch.zeros_like(x))


FORMULATIONS = (
    Formulation("expm1", XIELU_CUBIC, cubic, "expm1(min(x, 0)), cubic positive part"),
    Formulation("composed", XIELU_NEG_XSILU, negative_xsilu, "torch.where with silu"),
    Formulation("composed", XIELU_NEG_SILU, negative_silu, "torch.where with silu"),
    Formulation("composed", XIELU_NEG_ZERO, negative_zero, "torch.where with 0"),
    Formulation("zero-expm1", XIELU_TRAINABLE_BETA, zero_expm1, "expm1(min(x, 0))"),
    Formulation("zero-expm1", XIELU_FIXED_ALPHA, zero_expm1, "expm1(min(x, 0))"),
    Formulation("factored", XIPRELU_FIXED_ALPHA, factored, "x·(α·x + β)"),
)
