"""Formulations of xIPReLU under test."""

from __future__ import annotations

import torch
from torch import Tensor

from precision_lab.functions import XIPRELU
from precision_lab.implementations.family import Formulation
from precision_lab.kernels import stable_xiprelu


def as_printed(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return torch.where(x > 0, alpha_p * x * x + beta * x, alpha_n * x * x + beta * x)


def factored(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return x * (torch.where(x > 0, alpha_p, alpha_n) * x + beta)


FORMULATIONS = (
    Formulation("as-printed", XIPRELU, as_printed, "α·x·x + β·x in torch.where, as the paper prints it"),
    Formulation("factored", XIPRELU, factored, "x·(α·x + β)"),
    Formulation(
        "stable",
        XIPRELU,
        stable_xiprelu,
        "the lab's own: float64 inside, one rounding",
        compute_dtype="fp64",
        import_line="from precision_lab.kernels import XIPReLU, stable_xiprelu",
    ),
)
