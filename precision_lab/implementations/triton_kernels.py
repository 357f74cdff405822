"""xIELU, xIPReLU and ELU in Triton as people write them: FP32 inside, one forward and one backward kernel.

These are under test; the lab's own kernels are in `kernels`. α-gradients are summed per block and added
up by FP32 atomics, which is the usual way, and neither deterministic nor compensated.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from precision_lab.kernels.triton_elements import BITS, FP32, load, store
from precision_lab.kernels.triton_stable import FORMATS, INTERPRETED, on_device_of

XIELU: tl.constexpr = tl.constexpr(0)
XIPRELU: tl.constexpr = tl.constexpr(1)
ELU: tl.constexpr = tl.constexpr(2)
KINDS = {"xielu": XIELU.value, "xiprelu": XIPRELU.value, "elu": ELU.value}

# How eˣ − 1 is computed.
NAIVE: tl.constexpr = tl.constexpr(0)
EXPM1: tl.constexpr = tl.constexpr(1)
EPS_NAIVE: tl.constexpr = tl.constexpr(2)
EPS_EXPM1: tl.constexpr = tl.constexpr(3)
EXP2: tl.constexpr = tl.constexpr(4)
LIBDEVICE_EXP: tl.constexpr = tl.constexpr(5)
FAST_EXP: tl.constexpr = tl.constexpr(6)
FORMS = {
    "naive": NAIVE.value,
    "expm1": EXPM1.value,
    "eps-naive": EPS_NAIVE.value,
    "eps-expm1": EPS_EXPM1.value,
    "exp2": EXP2.value,
    "libdevice-exp": LIBDEVICE_EXP.value,
    "fast-exp": FAST_EXP.value,
}

BLOCK = 1024
# As Triton compiles by default: multiplications and additions may be fused.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


@triton.jit
def growth(x, FORM: tl.constexpr):
    """eˣ − 1, in the way under test."""
    if FORM == EXPM1:
        return libdevice.expm1(x)
    elif FORM == EPS_EXPM1:
        return libdevice.expm1(tl.minimum(x, -1e-6))
    elif FORM == EPS_NAIVE:
        return tl.exp(tl.minimum(x, -1e-6)) - 1.0
    elif FORM == EXP2:
        return tl.exp2(x * 1.4426950408889634) - 1.0
    elif FORM == LIBDEVICE_EXP:
        return libdevice.exp(x) - 1.0
    elif FORM == FAST_EXP:
        return libdevice.fast_expf(x) - 1.0
    else:
        return tl.exp(x) - 1.0


@triton.jit
def forward_kernel(
    x_ptr, y_ptr, p_ptr, n_ptr, b_ptr, n,
    KIND: tl.constexpr, FORM: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = load(x_ptr, at, n, True, FORMAT)
    if EACH:
        p, q, b = (
            load(p_ptr, at, n, True, FP32),
            load(n_ptr, at, n, True, FP32),
            load(b_ptr, at, n, True, FP32),
        )
    else:
        p, q, b = tl.load(p_ptr), tl.load(n_ptr), tl.load(b_ptr)
    if KIND == XIELU:
        y = tl.where(x > 0, p * x * x + b * x, q * growth(x, FORM) - q * x + b * x)
    elif KIND == XIPRELU:
        y = tl.where(x > 0, p * x * x + b * x, q * x * x + b * x)
    else:
        y = tl.where(x > 0, x, q * growth(x, FORM))
    store(y_ptr, at, y, n, True, FORMAT)


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, dx_ptr, p_ptr, n_ptr, b_ptr, dp_ptr, dn_ptr, db_ptr, n,
    KIND: tl.constexpr, FORM: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = load(x_ptr, at, n, True, FORMAT)
    dy = load(dy_ptr, at, n, True, FORMAT)
    if EACH:
        p, q, b = (
            load(p_ptr, at, n, True, FP32),
            load(n_ptr, at, n, True, FP32),
            load(b_ptr, at, n, True, FP32),
        )
    else:
        p, q, b = tl.load(p_ptr), tl.load(n_ptr), tl.load(b_ptr)
    zero = tl.zeros_like(x)
    if KIND == XIELU:
        g = growth(x, FORM)
        slope = tl.where(x > 0, 2.0 * p * x + b, q * g + b)
        dp, dn = tl.where(x > 0, x * x, zero), tl.where(x > 0, zero, g - x)
    elif KIND == XIPRELU:
        slope = 2.0 * tl.where(x > 0, p, q) * x + b
        dp, dn = tl.where(x > 0, x * x, zero), tl.where(x > 0, zero, x * x)
    else:
        g = growth(x, FORM)
        slope = tl.where(x > 0, 1.0, q * (g + 1.0))
        dp, dn = zero, tl.where(x > 0, zero, g)
    store(dx_ptr, at, dy * slope, n, True, FORMAT)
    if EACH:
        store(dp_ptr, at, dy * dp, n, True, FP32)
        store(dn_ptr, at, dy * dn, n, True, FP32)
        store(db_ptr, at, dy * x, n, True, FP32)
    else:
        tl.atomic_add(dp_ptr, tl.sum(dy * dp, axis=0))
        tl.atomic_add(dn_ptr, tl.sum(dy * dn, axis=0))
        tl.atomic_add(db_ptr, tl.sum(dy * x, axis=0))


def _stored(tensor: Tensor) -> tuple[Tensor, int]:
    if INTERPRETED and tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16), BITS.value
    return tensor, FORMATS[tensor.dtype]


def _launch(kernel: Any, n: int, tensors: list[Tensor], **constants: Any) -> None:
    with np.errstate(all="ignore") if INTERPRETED else nullcontext(), on_device_of(tensors[0]):
        kernel[(triton.cdiv(n, BLOCK),)](*tensors, n, BLOCK=BLOCK, **constants, **OPTIONS)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kind: str, form: str, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor
    ) -> Tensor:
        x = x.contiguous()
        parameters = (alpha_p, alpha_n, beta)
        each = any(t.numel() != 1 for t in parameters)
        given = [t.float().expand(x.shape).contiguous() if each else t.float() for t in parameters]
        ctx.save_for_backward(x, *given)
        ctx.how = (kind, form, each, [t.dtype for t in parameters])
        y = torch.empty_like(x)
        stored, fmt = _stored(x)
        if x.numel():
            _launch(
                forward_kernel, x.numel(), [stored, _stored(y)[0], *given],
                KIND=KINDS[kind], FORM=FORMS[form], FORMAT=fmt, EACH=each,
            )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *given = ctx.saved_tensors
        kind, form, each, dtypes = ctx.how
        dx = torch.empty_like(x)
        gradients = [torch.zeros_like(t) for t in given]
        stored, fmt = _stored(x)
        if x.numel():
            upstream = _stored(dy.contiguous())[0]
            _launch(
                backward_kernel, x.numel(), [upstream, stored, _stored(dx)[0], *given, *gradients],
                KIND=KINDS[kind], FORM=FORMS[form], FORMAT=fmt, EACH=each,
            )  # fmt: skip
        sums = [g.to(dtype) for g, dtype in zip(gradients, dtypes, strict=True)]
        return None, None, dx, *sums


def fused(kind: str, form: str, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """The activation `kind` with eˣ − 1 computed as `form` says; differentiable in all four tensors."""
    result: Tensor = _Fused.apply(kind, form, x, alpha_p, alpha_n, beta)
    return result


@triton.jit
def _convert(x_ptr, y_ptr, n, TO_E4M3: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    if TO_E4M3:
        tl.store(y_ptr + at, x.to(tl.float8e4nv), mask=at < n)
    else:
        tl.store(y_ptr + at, x.to(tl.float8e5), mask=at < n)


def to_float8(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Triton's own conversion of a contiguous tensor to float8_e4m3fn or float8_e5m2."""
    y = torch.empty_like(x, dtype=dtype)
    with on_device_of(x):
        _convert[(triton.cdiv(x.numel(), BLOCK),)](
            x, y, x.numel(), TO_E4M3=dtype == torch.float8_e4m3fn, BLOCK=BLOCK
        )
    return y
