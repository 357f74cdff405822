"""Kernels with instructions whose allowed results are too many to be tried, or that have no bound."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def one_instruction(x, NAME: tl.constexpr):
    return tl.inline_asm_elementwise(NAME + " $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def quotient(a, b):
    return tl.inline_asm_elementwise(
        "div.approx.f32 $0, $1, $2;", "=f,f,f", [a, b], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def kernel(x_ptr, y_ptr, n, WHAT: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n).to(tl.float32)
    y = tl.maximum(x, 0.0)
    if WHAT == "gelu_tanh":
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        y = 0.5 * x * (1 + one_instruction(inner, "tanh.approx.f32"))
    elif WHAT == "softplus":
        y = tl.where(x > 20, x, tl.log(1 + tl.exp(x)))
    elif WHAT == "softplus over threads":
        # The largest of a block, which is another thread's, is added and taken away again.
        y = tl.where(x > 20, x, tl.log(1 + tl.exp(x)))
        y = y + 0 * tl.max(tl.where(x > 20, 0.0, y), axis=0)
    elif WHAT == "softplus without a branch":
        y = tl.where(x > 20, x, 0.6931471805599453 * one_instruction(1 + tl.exp(x), "lg2.approx.f32"))
    elif WHAT == "sine":
        y = y + 0 * one_instruction(tl.where(tl.abs(x) < 1e30, x, 0.0), "sin.approx.f32")
    elif WHAT == "sine within":
        y = y + 0 * one_instruction(tl.where(tl.abs(x) < 300, x, 0.0), "sin.approx.f32")
    elif WHAT == "quotient":
        y = tl.where(x > 0, quotient(x * 2, x) * (x * 0.5), 0.0)
    elif WHAT == "quotient within":
        y = tl.where(x > 1e-30, tl.where(x < 1e30, quotient(x * 2, x) * (x * 0.5), x), tl.maximum(x, 0.0))
    tl.store(y_ptr + at, y, mask=at < n)


@triton.jit
def exponential(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.exp(-tl.load(x_ptr + at, mask=at < n).to(tl.float32)), mask=at < n)


@triton.jit
def mean_of_two(x_ptr, a_ptr, b_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n).to(tl.float32)
    a, b = tl.load(a_ptr + at, mask=at < n), tl.load(b_ptr + at, mask=at < n)
    tl.store(y_ptr + at, x / (1 + (0.5 * a + 0.5 * b)), mask=at < n)


def silu_of_two_kernels(x: torch.Tensor) -> torch.Tensor:
    """e^−x twice, by two launches whose results meet in a third."""
    y, n = torch.empty_like(x), x.numel()
    grid = (triton.cdiv(n, 128),)
    a, b = (torch.empty(n, dtype=torch.float32, device=x.device) for _ in range(2))
    for to in (a, b):
        exponential[grid](x, to, n, BLOCK=128)
    mean_of_two[grid](x, a, b, y, n, BLOCK=128)
    return y


def _run(x: torch.Tensor, what: str) -> torch.Tensor:
    y = torch.empty_like(x)
    kernel[(triton.cdiv(x.numel(), 128),)](x, y, x.numel(), WHAT=what, BLOCK=128)
    return y


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "gelu_tanh")


def softplus(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "softplus")


def softplus_over_threads(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "softplus over threads")


def softplus_without_branch(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "softplus without a branch")


def sine(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "sine")


def sine_within(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "sine within")


def quotient_of_all(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "quotient")


def quotient_within(x: torch.Tensor) -> torch.Tensor:
    return _run(x, "quotient within")
