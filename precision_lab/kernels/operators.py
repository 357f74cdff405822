"""xIELU and xIPReLU as torch operators `precision_lab::…`, for every device and for torch.compile.

On CUDA, bf16, fp16 and fp32 tensors go through the Triton kernels; everything else (CPU, float8, no
Triton) through the float64 functions of `stable`, whose results lie within the same bound.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precision_lab.kernels.stable import (
    Inputs,
    round_once,
    xielu_backward,
    xielu_forward,
    xiprelu_backward,
    xiprelu_forward,
)

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PARAMETER_DTYPES = (*TRITON_DTYPES, torch.float64)  # that Triton's kernels read and round to themselves
_PLAIN = {
    "xielu": (xielu_forward, xielu_backward),
    "xiprelu": (xiprelu_forward, xiprelu_backward),
}


def _triton(x: Tensor) -> Any:
    """The module of Triton kernels where they serve x, else None."""
    # Triton's interpreter, for those who debug a kernel, takes tensors of the CPU.
    if x.dtype not in TRITON_DTYPES or not (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    try:
        from precision_lab.kernels import triton_stable
    except ImportError:
        return None
    return triton_stable


def _check(name: str, x: Tensor, parameters: tuple[Tensor, ...]) -> None:
    if not x.is_floating_point():
        raise TypeError(f"{name}: x is {x.dtype}, expected a floating-point dtype")
    for argument, value in zip(("alpha_p", "alpha_n", "beta"), parameters, strict=True):
        if value.device != x.device:
            raise ValueError(f"{name}: {argument} is on {value.device}, x on {x.device}")
        if value.numel() != 1 and not _broadcasts(value, x):
            raise ValueError(
                f"{name}: {argument} of shape {tuple(value.shape)} does not broadcast to x of shape "
                f"{tuple(x.shape)}"
            )


def _broadcasts(value: Tensor, x: Tensor) -> bool:
    sizes = zip(reversed(value.shape), reversed(x.shape), strict=False)
    return value.ndim <= x.ndim and all(size in (1, target) for size, target in sizes)


def _dense(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory order of `torch.empty_like(like)`, copied only where it is not already."""
    if x.is_contiguous() and like.is_contiguous():
        return x
    order = torch.empty_like(like, device="meta").stride()
    return x if x.stride() == order else torch.empty_like(like, dtype=x.dtype).copy_(x)


def _scalars(parameters: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Single parameters without dimensions, so that they broadcast to an x that has none either."""
    return tuple(p.reshape(()) if p.numel() == 1 else p for p in parameters)


def _parameters(x: Tensor, parameters: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], bool]:
    """Parameters as the Triton kernels take them, and whether there is one per element, in float64."""
    if all(p.numel() == 1 for p in parameters):
        return tuple(p if p.dtype in PARAMETER_DTYPES else p.double() for p in parameters), False
    return tuple(_dense(p.double().expand_as(x), x) for p in parameters), True


def _as_parameter(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The kernel's gradient summed to the parameter's shape and rounded once, unless it was already."""
    if gradient.dtype == parameter.dtype and gradient.shape == parameter.shape:
        return _dense(gradient, parameter)
    return _dense(round_once(gradient.sum_to_size(parameter.shape), parameter.dtype), parameter)


def forward(name: str, x: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """f(x), a new dense tensor of x's shape and dtype.

    Args:
        name: "xielu" or "xiprelu".
        x: any floating-point dtype, shape and strides.
        parameters: α_p, α_n and β, effective values, that broadcast to x.

    Raises:
        TypeError, ValueError: x is no floating-point tensor, a parameter's device or shape does not fit.
    """
    _check(name, x, parameters)
    triton = _triton(x)
    if triton is None:
        return _dense(_PLAIN[name][0](x, *_scalars(parameters)), x)
    given, each = _parameters(x, parameters)
    result: Tensor = triton.forward(name, _dense(x, x), given, each)
    return result


def backward(
    name: str, dy: Tensor, x: Tensor, parameters: tuple[Tensor, ...], needed: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, α_p, α_n and β, each laid out like its own; an empty tensor where one is not needed.

    Sums over x are taken in float64 or with compensation and rounded once to the parameter's dtype.
    """
    triton = _triton(x)
    if triton is None:
        alpha_p, alpha_n, beta = _scalars(parameters)
        d_x, *found = _PLAIN[name][1](dy, (x, alpha_p, alpha_n, beta), needed)
        d_p, d_n, d_b = (
            x.new_empty(0) if d is None else _dense(d.reshape(p.shape), p)
            for d, p in zip(found, parameters, strict=True)
        )
        if d_x is None:
            return x.new_empty(0), d_p, d_n, d_b
        return _dense(d_x, x), d_p, d_n, d_b
    given, each = _parameters(x, parameters)
    dense = _dense(x, x)
    # Those that are summed, to a smaller shape, are summed first and rounded then.
    dtypes = [
        p.dtype if p.shape == x.shape and p.dtype in PARAMETER_DTYPES else torch.float64 for p in parameters
    ]
    d_x, *found = triton.backward(name, _dense(dy, x), dense, given, each, needed[1:], dtypes)
    gradients = [
        _as_parameter(part, p) if wanted else x.new_empty(0)
        for part, p, wanted in zip(found, parameters, needed[1:], strict=True)
    ]
    return d_x if needed[0] else x.new_empty(0), gradients[0], gradients[1], gradients[2]


def _define(name: str) -> Callable[..., Tensor]:
    """Registers `precision_lab::NAME` with its shapes and gradients."""

    @torch.library.custom_op(
        f"precision_lab::{name}",
        mutates_args=(),
        schema="(Tensor x, Tensor alpha_p, Tensor alpha_n, Tensor beta) -> Tensor",
    )
    def operator(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
        return forward(name, x, (alpha_p, alpha_n, beta))

    @operator.register_fake
    def _(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
        return torch.empty_like(x)

    @torch.library.custom_op(
        f"precision_lab::{name}_backward",
        mutates_args=(),
        schema="(Tensor dy, Tensor x, Tensor alpha_p, Tensor alpha_n, Tensor beta, bool[] needed) "
        "-> (Tensor, Tensor, Tensor, Tensor)",
    )
    def gradient(
        dy: Tensor, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor, needed: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return backward(name, dy, x, (alpha_p, alpha_n, beta), needed)

    @gradient.register_fake
    def _(
        dy: Tensor, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor, needed: list[bool]
    ) -> tuple[Tensor, ...]:
        given = (x, alpha_p, alpha_n, beta)
        return tuple(torch.empty_like(t) if n else x.new_empty(0) for t, n in zip(given, needed, strict=True))

    def keep(ctx: Any, inputs: Inputs, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        needed = list(ctx.needs_input_grad)
        found = gradient(dy, *ctx.saved_tensors, needed)
        return tuple(d if n else None for d, n in zip(found, needed, strict=True))

    operator.register_autograd(differentiate, setup_context=keep)
    return operator


_xielu, _xiprelu = _define("xielu"), _define("xiprelu")


def xielu(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """The lab's xIELU as the operator `precision_lab::xielu`: Triton on CUDA, float64 elsewhere.

    Args:
        x: floating point, any shape and strides.
        alpha_p, alpha_n, beta: effective parameters on x's device, which broadcast to x.

    Returns:
        A dense tensor like x. Gradients of all four arguments are defined, once.

    Raises:
        TypeError, ValueError: x is no floating-point tensor, a parameter's device or shape does not fit.

    Source: arXiv 2411.13010; bounds in `triton_elements`.
    """
    return _xielu(x, alpha_p, alpha_n, beta)


def xiprelu(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """The lab's xIPReLU as the operator `precision_lab::xiprelu`; otherwise as `xielu`."""
    return _xiprelu(x, alpha_p, alpha_n, beta)
