"""The lab's own xIELU and xIPReLU: accurate for every input, forward and every gradient.

Arithmetic is float64 inside, with one rounding to the storage format at the end. Near
a root of f or f′, where x is within 2^-25 of it relatively, fp32 arithmetic loses all its
digits to cancellation; float64 has 29 more, which is enough but for the few numbers that `roots`
computes again. The cost is memory traffic of twice fp32's width in eager mode.

This is a kernel like any other: it shares no code with the oracle that judges it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precision_lab.kernels import roots

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # x, α_p, α_n, β

# Below this |x|, e^x − 1 − x is its Taylor polynomial. Cut off after x^13/13!, the rest is below
# x^12·2/14!·1.02, that is 2^-58 of x²/2 at |x| = 2^-2; the difference expm1(x) − x used elsewhere has
# lost at most 2^-53·|x| of x²/2, that is 2^-50. Near a root of f, where fp32 numbers lie within 2^-25
# of it, either must stay well below fp32's 2^-24.
SERIES_BELOW = 2.0**-2
_SERIES = tuple(1.0 / math.factorial(k) for k in range(13, 1, -1))


def _widen(value: Tensor) -> Tensor:
    # float8 tensors have no direct way to float64 in every release.
    return value.float().double() if value.dtype.itemsize == 1 else value.double()


def round_once(value: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 to `dtype` with one correct rounding.

    torch takes float64 to the small formats through float32, and rounding twice can go
    the wrong way at ties. Rounding to odd in float32 first (truncate; set the last bit
    if anything was cut off) makes the second rounding the only one that counts:
    float32 has more than two bits beyond every smaller format (Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57, 2008).
    """
    if dtype in (torch.float32, torch.float64):
        return value.to(dtype)
    nearest = value.float()
    back = nearest.double()
    bits = nearest.view(torch.int32)
    bits = bits - (back.abs() > value.abs()).int()  # toward zero; float order is bit order
    bits = bits | (back != value).int()
    return bits.view(torch.float32).to(dtype)


def _expm1_minus_x(x: Tensor, expm1: Tensor) -> Tensor:
    """e^x − 1 − x for x ≤ 0, given e^x − 1."""
    series = torch.full_like(x, _SERIES[0])
    for coefficient in _SERIES[1:]:
        series = series * x + coefficient
    series = x * x * series
    return torch.where(x > -SERIES_BELOW, series, expm1 - x)


def _reduce(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient summed in float64 to the parameter's shape, then rounded once."""
    return round_once(gradient.sum_to_size(like.shape), like.dtype)


def _gradients(
    inputs: Inputs, needed: Sequence[bool], wide: Tensor, grad: Tensor, slope: Tensor, below: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of x, α_p, α_n and β that are needed, each rounded once.

    Args:
        slope: df/dx. below: df/dα_n on x ≤ 0. All in float64, shaped like x.
    """
    x, alpha_p, alpha_n, beta = inputs
    positive, zero = wide > 0, torch.zeros_like(wide)
    d_x = d_p = d_n = d_b = None
    if needed[0]:
        d_x = round_once(grad * slope, x.dtype)
    if needed[1]:
        d_p = _reduce(grad * torch.where(positive, wide * wide, zero), alpha_p)
    if needed[2]:
        d_n = _reduce(grad * torch.where(positive, zero, below), alpha_n)
    if needed[3]:
        d_b = _reduce(grad * wide, beta)
    return d_x, d_p, d_n, d_b


def xielu_forward(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """f(x) of xIELU; arguments as `stable_xielu`, no gradients recorded."""
    wide = _widen(x)
    a_p, a_n, b = _widen(alpha_p), _widen(alpha_n), _widen(beta)
    negative = wide.clamp(max=0.0)  # keeps e^x from overflowing on the discarded side
    expm1 = torch.expm1(negative)
    near = a_n * _expm1_minus_x(negative, expm1) + b * negative
    # Far below 0, e^x − 1 − x would forget that beta·x takes back alpha_n·x. The slope is
    # exact for parameters of fp32 or less; a slope of 0 times −inf must stay 0.
    slope = b - a_n
    # Where that line crosses 0 far out, alpha_n·e^x is all that is left, which expm1 has forgotten.
    line = torch.where(slope == 0, torch.zeros_like(wide), slope * negative)
    far = a_n * torch.exp(negative) + (line - a_n)
    below = torch.where(negative < -1.0, far, near)
    roots.mend(below, negative, a_n, b, False)
    y = torch.where(wide > 0, wide * (a_p * wide + b), below)
    # A sum of +0 and −0 is +0: hand zeros through as they came.
    return round_once(torch.where(wide == 0, wide, y), x.dtype)


def xielu_backward(grad: Tensor, inputs: Inputs, needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of x, α_p, α_n and β, None where not needed, for the upstream gradient `grad`."""
    x, _, alpha_n, beta = inputs
    wide = _widen(x)
    negative = wide.clamp(max=0.0)
    expm1 = torch.expm1(negative)
    a_n, b = _widen(alpha_n), _widen(beta)
    # For alpha_n = beta only alpha_n·e^x is left, which expm1 has forgotten from −37 down.
    below = torch.where(negative < -1.0, (b - a_n) + a_n * torch.exp(negative), a_n * expm1 + b)
    roots.mend(below, negative, a_n, b, True)
    slope = torch.where(wide > 0, 2 * _widen(inputs[1]) * wide + b, below)
    return _gradients(inputs, needed, wide, _widen(grad), slope, _expm1_minus_x(negative, expm1))


def xiprelu_forward(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """f(x) of xIPReLU; as `xielu_forward`."""
    wide = _widen(x)
    alpha = torch.where(wide > 0, _widen(alpha_p), _widen(alpha_n))
    # The product is exact (24 + 24 bits), so the sum is right to half a float64 ulp at the root.
    y = wide * (alpha * wide + _widen(beta))
    return round_once(torch.where(wide == 0, wide, y), x.dtype)


def xiprelu_backward(grad: Tensor, inputs: Inputs, needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """As `xielu_backward`."""
    x, alpha_p, alpha_n, beta = inputs
    wide = _widen(x)
    alpha = torch.where(wide > 0, _widen(alpha_p), _widen(alpha_n))
    return _gradients(inputs, needed, wide, _widen(grad), 2 * alpha * wide + _widen(beta), wide * wide)


class _StableXIELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return xielu_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return xielu_backward(grad, ctx.saved_tensors, ctx.needs_input_grad)


class _StableXIPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return xiprelu_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return xiprelu_backward(grad, ctx.saved_tensors, ctx.needs_input_grad)


def stable_xielu(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """xIELU with a bounded error for every input, ±0, ±inf and root neighbourhoods included.

    Args:
        x: any shape; float32, bfloat16, float16 or a float8 dtype.
        alpha_p, alpha_n, beta: effective parameters, tensors that broadcast to x.

    Returns:
        A tensor like x. Gradients of all four arguments are defined.

    Source: arXiv 2411.13010; the rearrangements are derived beside the code.
    """
    result: Tensor = _StableXIELU.apply(x, alpha_p, alpha_n, beta)  # type: ignore[no-untyped-call]
    return result


def stable_xiprelu(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """xIPReLU with a bounded error for every input; arguments and result as `stable_xielu`."""
    result: Tensor = _StableXIPReLU.apply(x, alpha_p, alpha_n, beta)  # type: ignore[no-untyped-call]
    return result
