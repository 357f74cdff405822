"""Formulations of xIELU under test, as people write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precision_lab.functions import XIELU
from precision_lab.implementations.family import Formulation
from precision_lab.kernels import stable_xielu

EPS = -1e-6  # the clamp of the paper's listing


def naive(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return torch.where(
        x > 0,
        alpha_p * x * x + beta * x,
        alpha_n * (torch.exp(x) - 1) - alpha_n * x + beta * x,
    )


def expm1(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return torch.where(
        x > 0,
        alpha_p * x * x + beta * x,
        alpha_n * torch.expm1(x) - alpha_n * x + beta * x,
    )


def eps_naive(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    clamped = torch.minimum(x, torch.tensor(EPS, dtype=x.dtype, device=x.device))
    return torch.where(
        x > 0,
        alpha_p * x * x + beta * x,
        alpha_n * (torch.exp(clamped) - 1) - alpha_n * x + beta * x,
    )


def eps_expm1(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """The paper's listing (arXiv 2411.13010, appendix), made runnable.

    As printed it takes a function of torch of a Python float, which raises; here eps is a tensor.
    """
    clamped = torch.minimum(x, torch.tensor(EPS, dtype=x.dtype, device=x.device))
    return torch.where(
        x > 0,
        alpha_p * x * x + beta * x,
        alpha_n * torch.expm1(clamped) - alpha_n * x + beta * x,
    )


def zero_expm1(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    clamped = torch.clamp(x, max=0.0)
    return torch.where(
        x > 0,
        alpha_p * x * x + beta * x,
        alpha_n * torch.expm1(clamped) - alpha_n * x + beta * x,
    )


class _XIELUFunction(torch.autograd.Function):
    """expm1 clamped at 0, with the gradients written by hand in the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha_p, alpha_n, beta)
        return zero_expm1(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, alpha_p, alpha_n, beta = ctx.saved_tensors
        growth = torch.expm1(torch.clamp(x, max=0.0))
        zero = torch.zeros_like(x)
        d_x = grad * torch.where(x > 0, 2 * alpha_p * x + beta, alpha_n * growth + beta)
        d_p = grad * torch.where(x > 0, x * x, zero)
        d_n = grad * torch.where(x > 0, zero, growth - x)
        d_b = grad * x
        return (
            d_x,
            d_p.sum_to_size(alpha_p.shape),
            d_n.sum_to_size(alpha_n.shape),
            d_b.sum_to_size(beta.shape),
        )


def autograd_function(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    result: Tensor = _XIELUFunction.apply(x, alpha_p, alpha_n, beta)  # type: ignore[no-untyped-call]
    return result


FORMULATIONS = (
    Formulation("naive", XIELU, naive, "exp(x) − 1, no clamp"),
    Formulation("expm1", XIELU, expm1, "expm1(x), no clamp"),
    Formulation("eps-naive", XIELU, eps_naive, "exp(min(x, −1e-6)) − 1"),
    Formulation("eps-expm1", XIELU, eps_expm1, "expm1(min(x, −1e-6)): the paper's listing, made runnable"),
    Formulation("zero-expm1", XIELU, zero_expm1, "expm1(min(x, 0))"),
    Formulation(
        "autograd-function", XIELU, autograd_function, "expm1(min(x, 0)) with hand-written gradients"
    ),
    Formulation(
        "stable",
        XIELU,
        stable_xielu,
        "the lab's own: float64 inside, one rounding",
        compute_dtype="fp64",
        import_line="from precision_lab.kernels import XIELU, stable_xielu",
    ),
)
