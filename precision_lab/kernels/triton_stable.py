"""The stable xIELU and xIPReLU as two Triton kernels: forward, and backward with its reductions.

Each reads every input once and writes every output once. A fixed number of programs walk over
the tiles, so that the roots are found once per program, and the order in which α-gradients
are summed depends on the tensor's size alone: the same bits on every run. Devices of one compute capability
give the same; another's compiler may contract other products, and a sum may differ in its last bits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from precision_lab.kernels import triton_elements as elements
from precision_lab.kernels.triton_elements import BITS, FP32

KINDS = {"xielu": elements.XIELU.value, "xiprelu": elements.XIPRELU.value}
FORMATS = {
    torch.float32: elements.FP32.value,
    torch.float16: elements.FP16.value,
    torch.bfloat16: elements.BF16.value,
}
# 8 programs of 8 warps fill each of an H200's 132 multiprocessors; a constant, so that the order of sums is
# the same on every device.
PROGRAMS = 1024
# Fusing is asked for, since releases of Triton differ in their default. No step depends on its absence:
# products that must be rounded are made by `elements.rounded_product`.
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}
COLUMNS: tl.constexpr = tl.constexpr(8)  # of a backward tile: 16 bytes of a 16-bit format, in one thread
FORWARD_BLOCK = 4096
BACKWARD_ROWS = 256


@triton.jit
def _forward_tile(
    x_ptr, y_ptr, p_ptr, n_ptr, b_ptr, alpha_p, alpha_n, beta, high, low, reach, slope, weight, count,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.arange(0, BLOCK)
    x = elements.load(x_ptr, at, count, MASKED, FORMAT)
    if EACH:
        alpha_p = elements.load64(p_ptr, at, count, MASKED)
        alpha_n = elements.load64(n_ptr, at, count, MASKED)
        beta = elements.load64(b_ptr, at, count, MASKED)
    if FORMAT == FP32:
        if EACH:
            high, low, reach, slope, weight = elements.prepare_forward64(alpha_n, beta)
        wide = elements.forward64(
            x.to(tl.float64), alpha_p, alpha_n, beta, high, low, reach, slope, weight, KIND
        )
        y = wide.to(tl.float32)
    else:
        if EACH:
            high, low, reach, slope, weight = elements.prepare_forward(alpha_n, beta)
        y = elements.forward32(x, alpha_p, alpha_n, beta, high, low, reach, slope, weight, KIND)
    # A sum of +0 and −0 is +0: zeros go through as they came.
    elements.store(y_ptr, at, tl.where(x == 0, x, y), count, MASKED, FORMAT)


@triton.jit
def forward_kernel(
    x_ptr, y_ptr, p_ptr, n_ptr, b_ptr, n,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = f(x) for n elements; EACH: parameters per element instead of one of each."""
    program = tl.program_id(0).to(tl.int64)  # offsets go beyond 2³¹
    programs = tl.num_programs(0).to(tl.int64)
    alpha_p, alpha_n, beta = (
        tl.full((), 0.0, tl.float64),
        tl.full((), 0.0, tl.float64),
        tl.full((), 0.0, tl.float64),
    )
    high, low, reach, slope, weight = 0.0, 0.0, -1.0, 0.0, 0.0
    if not EACH:
        alpha_p, alpha_n, beta = tl.load(p_ptr), tl.load(n_ptr), tl.load(b_ptr)
        if KIND == elements.XIELU:
            if FORMAT == FP32:
                high, low, reach, slope, weight = elements.prepare_forward64(alpha_n, beta)
            else:
                high, low, reach, slope, weight = elements.prepare_forward(alpha_n, beta)
    full = n // BLOCK
    for tile in tl.range(program, full, programs):
        base = tile * BLOCK
        _forward_tile(
            x_ptr + base, y_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base,
            alpha_p, alpha_n, beta, high, low, reach, slope, weight, BLOCK, KIND, FORMAT, EACH, False, BLOCK,
        )  # fmt: skip
    if program == full % programs:
        base = full * BLOCK
        if base < n:
            _forward_tile(
                x_ptr + base, y_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base, alpha_p, alpha_n, beta,
                high, low, reach, slope, weight, (n - base).to(tl.int32), KIND, FORMAT, EACH, True, BLOCK,
            )  # fmt: skip


@triton.jit
def _add(total, lost, value):
    """Kahan's compensated sum; an infinity stays one instead of becoming NaN.

    No product stands here, so nothing is contracted: `value` is one number, however it was made.
    """
    step = value - lost
    new = total + step
    lost = (new - total) - step
    return new, tl.where(tl.abs(new) < float("inf"), lost, 0.0)


@triton.jit
def _backward_tile(
    dy_ptr, x_ptr, dx_ptr, p_ptr, n_ptr, b_ptr, dp_ptr, dn_ptr, db_ptr,
    alpha_p, alpha_n, beta, high, low, reach, gap, count,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, MASKED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Writes dx and returns the tile's sums of each gradient over its columns."""
    at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x = elements.load(x_ptr, at, count, MASKED, FORMAT)
    dy = elements.load(dy_ptr, at, count, MASKED, FORMAT)
    if EACH:
        alpha_p = elements.load64(p_ptr, at, count, MASKED)
        alpha_n = elements.load64(n_ptr, at, count, MASKED)
        beta = elements.load64(b_ptr, at, count, MASKED)
    if FORMAT == FP32:
        x, dy = x.to(tl.float64), dy.to(tl.float64)
        if EACH:
            high, low, reach, gap = elements.prepare_backward64(alpha_n, beta)
        slope, for_p, for_n = elements.backward64(x, alpha_p, alpha_n, beta, high, low, reach, gap, KIND)
    else:
        if EACH:
            high, low, reach, gap = elements.prepare_backward(alpha_n, beta)
        slope, for_p, for_n = elements.backward32(x, alpha_p, alpha_n, beta, high, low, reach, gap, KIND)
    elements.store(dx_ptr, at, (dy * slope).to(tl.float32), count, MASKED, FORMAT)
    if EACH:
        wide = dy.to(tl.float64)
        each_p, each_n = for_p, for_n
        if FORMAT != FP32:
            each_p, each_n = elements.square64(x, for_p, for_n, KIND)
        elements.store64(dp_ptr, at, wide * each_p, count, MASKED)
        elements.store64(dn_ptr, at, wide * each_n, count, MASKED)
        elements.store64(db_ptr, at, wide * x.to(tl.float64), count, MASKED)
    return tl.sum(dy * for_p, axis=1), tl.sum(dy * for_n, axis=1), tl.sum(dy * x, axis=1)


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, dx_ptr, p_ptr, n_ptr, b_ptr, dp_ptr, dn_ptr, db_ptr, sums_ptr, n,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, SUM_BETA: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """dx, and either every parameter's gradient per element (EACH) or three partial sums per program.

    Eight neighbours are added in the arithmetic's own precision, everything beyond with
    compensation (FP32) or in FP64: the error is a few 2⁻²⁴ of Σ|terms|, whatever n is.
    """
    program = tl.program_id(0).to(tl.int64)  # offsets go beyond 2³¹
    programs = tl.num_programs(0).to(tl.int64)
    BLOCK: tl.constexpr = ROWS * COLUMNS
    alpha_p, alpha_n, beta = (
        tl.full((), 0.0, tl.float64),
        tl.full((), 0.0, tl.float64),
        tl.full((), 0.0, tl.float64),
    )
    high, low, reach, gap = 0.0, 0.0, -1.0, 0.0
    if not EACH:
        alpha_p, alpha_n, beta = tl.load(p_ptr), tl.load(n_ptr), tl.load(b_ptr)
        if KIND == elements.XIELU:
            if FORMAT == FP32:
                high, low, reach, gap = elements.prepare_backward64(alpha_n, beta)
            else:
                high, low, reach, gap = elements.prepare_backward(alpha_n, beta)
    kind: tl.constexpr = tl.float64 if FORMAT == FP32 else tl.float32
    sum_p, lost_p = tl.zeros((ROWS,), kind), tl.zeros((ROWS,), kind)
    sum_n, lost_n = tl.zeros((ROWS,), kind), tl.zeros((ROWS,), kind)
    sum_b, lost_b = tl.zeros((ROWS,), kind), tl.zeros((ROWS,), kind)
    full = n // BLOCK
    for tile in tl.range(program, full, programs):
        base = tile * BLOCK
        p, q, b = _backward_tile(
            dy_ptr + base, x_ptr + base, dx_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base,
            dp_ptr + base, dn_ptr + base, db_ptr + base,
            alpha_p, alpha_n, beta, high, low, reach, gap, BLOCK, KIND, FORMAT, EACH, False, ROWS,
        )  # fmt: skip
        if not EACH:
            sum_p, lost_p = _add(sum_p, lost_p, p)
            sum_n, lost_n = _add(sum_n, lost_n, q)
            if SUM_BETA:
                sum_b, lost_b = _add(sum_b, lost_b, b)
    if program == full % programs:
        base = full * BLOCK
        if base < n:
            p, q, b = _backward_tile(
                dy_ptr + base, x_ptr + base, dx_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base,
                dp_ptr + base, dn_ptr + base, db_ptr + base, alpha_p, alpha_n, beta,
                high, low, reach, gap, (n - base).to(tl.int32), KIND, FORMAT, EACH, True, ROWS,
            )  # fmt: skip
            if not EACH:
                sum_p, lost_p = _add(sum_p, lost_p, p)
                sum_n, lost_n = _add(sum_n, lost_n, q)
                if SUM_BETA:
                    sum_b, lost_b = _add(sum_b, lost_b, b)
    if not EACH:
        tl.store(sums_ptr + 3 * program, tl.sum(sum_p.to(tl.float64) - lost_p.to(tl.float64), axis=0))
        tl.store(sums_ptr + 3 * program + 1, tl.sum(sum_n.to(tl.float64) - lost_n.to(tl.float64), axis=0))
        tl.store(sums_ptr + 3 * program + 2, tl.sum(sum_b.to(tl.float64) - lost_b.to(tl.float64), axis=0))


INTERPRETED: bool = elements.INTERPRETED.value


def _quiet() -> AbstractContextManager[Any]:
    """The interpreter is numpy, which warns of every overflow that the formats are meant to have."""
    return np.errstate(all="ignore") if INTERPRETED else nullcontext()


def _stored(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor as the kernel takes it, and how it is stored."""
    if INTERPRETED and tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16), BITS.value
    return tensor, FORMATS[tensor.dtype]


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Makes the tensor's device the current one, which Triton launches on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def forward(kind: str, x: Tensor, parameters: tuple[Tensor, Tensor, Tensor], each: bool) -> Tensor:
    """f(x) of a dense tensor in memory order.

    Args:
        kind: "xielu" or "xiprelu". x: float32, float16 or bfloat16, no gaps between its elements.
        parameters: α_p, α_n and β in float64: one element each, or with `each` laid out like x.
    """
    y = torch.empty_like(x)
    n = x.numel()
    if n == 0:
        return y
    given, fmt = _stored(x)
    grid = (min(triton.cdiv(n, FORWARD_BLOCK), PROGRAMS),)
    with _quiet(), on_device_of(x):
        forward_kernel[grid](
            given, _stored(y)[0], *parameters, n,
            KIND=KINDS[kind], FORMAT=fmt, EACH=each, BLOCK=FORWARD_BLOCK, **OPTIONS,
        )  # fmt: skip
    return y


def backward(
    kind: str, dy: Tensor, x: Tensor, parameters: tuple[Tensor, Tensor, Tensor], each: bool, sum_beta: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, and the gradients of α_p, α_n and β: float64 sums, or with `each` float64 per element.

    Args:
        dy: like x in dtype and memory order; the others as `forward`.
        sum_beta: β's sum is wanted too; else it is 0.
    """
    dx = torch.empty_like(x)
    n = x.numel()
    programs = max(min(triton.cdiv(n, BACKWARD_ROWS * COLUMNS.value), PROGRAMS), 1)
    sums = torch.zeros(programs, 3, dtype=torch.float64, device=x.device)
    gradients = [torch.empty_like(x, dtype=torch.float64) if each else sums for _ in range(3)]
    if n:
        given, fmt = _stored(x)
        with _quiet(), on_device_of(x):
            backward_kernel[(programs,)](
                _stored(dy)[0], given, _stored(dx)[0], *parameters, *gradients, sums, n,
                KIND=KINDS[kind], FORMAT=fmt, EACH=each, SUM_BETA=sum_beta,
                ROWS=BACKWARD_ROWS, **OPTIONS,
            )  # fmt: skip
    if each:
        return dx, gradients[0], gradients[1], gradients[2]
    total = sums.sum(0)  # one reduction of a fixed shape: the same order every time
    # Each in memory of its own: results of an operator may not be views of one another.
    return dx, total[0].clone(), total[1].clone(), total[2].clone()
