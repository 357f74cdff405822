"""The stable xIELU and xIPReLU as Triton kernels: forward, and backward with its reductions.

Each reads every input once and writes every output once; only with single parameters that may turn the sign
of a zero (β < 0), forward reads 16-bit inputs again. Parameters are read in their own dtype. A kernel of one
program before them finds the root of f, or in fp32 of f′; one after backward adds the sums of its programs.

A fixed number of programs walk over the tiles, so that the order in which gradients of parameters are summed
depends on the tensor's size alone: the same bits on every run of one compiled kernel. Another compute
capability or release of Triton may contract other products, lay the elements of a tile out otherwise or add
them in another order, and then a sum may differ in its last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# A constant and not the device's, so that the order of sums is the tensor's.
PROGRAMS = 1024
# A multiprocessor has 65,536 registers: 8 programs of 8 warps fit if a thread uses no more than these, so
# that the 132 of an H100 or H200 hold all programs at once. Left alone, compilers give 16-bit forward 32 to
# 57; with 32 nothing is spilled for 8.0 and 9.0, four registers at most for 10.0 (a test counts). Backward
# and fp32 need more: there some programs begin when others have ended.
FEW = {"maxnreg": 32}
# Fusing is asked for, since releases of Triton differ in their default. Bounds do not depend on its absence:
# products that must be rounded are made by `elements.rounded_product`. Bits may.
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}
COLUMNS: tl.constexpr = tl.constexpr(8)  # of a backward tile: 16 bytes of a 16-bit format, in one thread
FORWARD_BLOCK = 4096
BACKWARD_ROWS = 256


@triton.jit
def roots_kernel(n_ptr, b_ptr, roots_ptr, FORMAT: tl.constexpr, SLOPE: tl.constexpr):
    """What depends on single parameters alone and takes long: `prepare_…`'s numbers for f, or with SLOPE f′.

    One program, launched before the kernel that reads them.
    """
    alpha_n, beta = elements.load_parameter(n_ptr), elements.load_parameter(b_ptr)
    if SLOPE:
        high, low, reach, gap = elements.prepare_backward64(alpha_n, beta)
        tl.store(roots_ptr + 3, gap)
    else:
        if FORMAT == FP32:
            high, low, reach, slope, weight = elements.prepare_forward64(alpha_n, beta)
        else:
            high, low, reach, slope, weight = elements.prepare_forward(alpha_n, beta)
        tl.store(roots_ptr + 3, slope)
        tl.store(roots_ptr + 4, weight)
    tl.store(roots_ptr, high)
    tl.store(roots_ptr + 1, low)
    tl.store(roots_ptr + 2, reach)


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
    if EACH or FORMAT == FP32:
        # f(±0) is ±0, but forward64 adds +0 to −0, and any parameters may be of these elements.
        elements.store(y_ptr, at, tl.where(x == 0, x, y), count, MASKED, FORMAT)
    else:
        elements.store(y_ptr, at, y, count, MASKED, FORMAT)
        if not elements.keeps_zeros(alpha_n, beta):
            # Read again: kept until here, x would cost registers that other parameters do not need.
            tl.debug_barrier()
            x = elements.load(x_ptr, at, count, MASKED, FORMAT)
            elements.store_zeros(y_ptr, at, x, count, MASKED, FORMAT)


@triton.jit
def forward_kernel(
    x_ptr, y_ptr, p_ptr, n_ptr, b_ptr, roots_ptr, n,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = f(x) for a block of n elements; EACH: parameters per element instead of one of each.

    Args:
        roots_ptr: of one xIELU, what `roots_kernel` wrote.
    """
    program = tl.program_id(0).to(tl.int64)  # offsets go beyond 2³¹
    programs = tl.num_programs(0).to(tl.int64)
    alpha_p, alpha_n, beta = 0.0, 0.0, 0.0
    high, low, reach, slope, weight = 0.0, 0.0, -1.0, 0.0, 0.0
    if not EACH:
        alpha_p = elements.load_parameter(p_ptr)
        alpha_n = elements.load_parameter(n_ptr)
        beta = elements.load_parameter(b_ptr)
        if KIND == elements.XIELU:
            high, low, reach = tl.load(roots_ptr), tl.load(roots_ptr + 1), tl.load(roots_ptr + 2)
            slope, weight = tl.load(roots_ptr + 3), tl.load(roots_ptr + 4)
    full = n // BLOCK
    for tile in tl.range(program, full, programs):
        base = tile * BLOCK
        _forward_tile(
            x_ptr + base, y_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base,
            alpha_p, alpha_n, beta, high, low, reach, slope, weight, BLOCK, KIND, FORMAT, EACH, False, BLOCK,
        )  # fmt: skip
    if (program == full % programs) & (full * BLOCK < n):
        base = full * BLOCK
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
    dy_ptr, x_ptr, dx_ptr, p_ptr, n_ptr, b_ptr, roots_ptr, dp_ptr, dn_ptr, db_ptr, sums_ptr, n,
    KIND: tl.constexpr, FORMAT: tl.constexpr, EACH: tl.constexpr, ROWS: tl.constexpr,
    SUM_P: tl.constexpr, SUM_N: tl.constexpr, SUM_B: tl.constexpr,
):  # fmt: skip
    """dx, and either every parameter's gradient per element (EACH) or each program's sums of the wanted ones.

    Eight neighbours are added in the arithmetic's own precision, everything beyond with
    compensation (FP32) or in FP64: the error is a few 2⁻²⁴ of Σ|terms|, whatever n is.

    Args:
        roots_ptr: of one xIELU in fp32, what `roots_kernel` wrote. In 16 bits the root of f′ is a logarithm
            and one step of Newton's: every program finds it in less time than a launch takes.
        sums_ptr: of α_p for every program, then of α_n, then of β.
    """
    program = tl.program_id(0).to(tl.int64)  # offsets go beyond 2³¹
    programs = tl.num_programs(0).to(tl.int64)
    BLOCK: tl.constexpr = ROWS * COLUMNS
    alpha_p, alpha_n, beta = 0.0, 0.0, 0.0
    high, low, reach, gap = 0.0, 0.0, -1.0, 0.0
    if not EACH:
        alpha_p = elements.load_parameter(p_ptr)
        alpha_n = elements.load_parameter(n_ptr)
        beta = elements.load_parameter(b_ptr)
        if KIND == elements.XIELU:
            if FORMAT == FP32:
                high, low = tl.load(roots_ptr), tl.load(roots_ptr + 1)
                reach, gap = tl.load(roots_ptr + 2), tl.load(roots_ptr + 3)
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
        if SUM_P:
            sum_p, lost_p = _add(sum_p, lost_p, p)
        if SUM_N:
            sum_n, lost_n = _add(sum_n, lost_n, q)
        if SUM_B:
            sum_b, lost_b = _add(sum_b, lost_b, b)
    if program == full % programs:
        base = full * BLOCK
        if base < n:
            p, q, b = _backward_tile(
                dy_ptr + base, x_ptr + base, dx_ptr + base, p_ptr + base, n_ptr + base, b_ptr + base,
                dp_ptr + base, dn_ptr + base, db_ptr + base, alpha_p, alpha_n, beta,
                high, low, reach, gap, (n - base).to(tl.int32), KIND, FORMAT, EACH, True, ROWS,
            )  # fmt: skip
            if SUM_P:
                sum_p, lost_p = _add(sum_p, lost_p, p)
            if SUM_N:
                sum_n, lost_n = _add(sum_n, lost_n, q)
            if SUM_B:
                sum_b, lost_b = _add(sum_b, lost_b, b)
    if SUM_P:
        total = tl.sum(sum_p.to(tl.float64) - lost_p.to(tl.float64), axis=0)
        tl.store(sums_ptr + program, total)
    if SUM_N:
        total = tl.sum(sum_n.to(tl.float64) - lost_n.to(tl.float64), axis=0)
        tl.store(sums_ptr + programs + program, total)
    if SUM_B:
        total = tl.sum(sum_b.to(tl.float64) - lost_b.to(tl.float64), axis=0)
        tl.store(sums_ptr + 2 * programs + program, total)


@triton.jit
def finish_kernel(sums_ptr, dp_ptr, dn_ptr, db_ptr, programs, SIZE: tl.constexpr):
    """Each wanted gradient (the others are None): the programs' partial sums added in FP64, rounded once.

    One program. Missing ones count as 0, so that the order of additions is SIZE's, which is constant.
    """
    at = tl.arange(0, SIZE)
    if dp_ptr is not None:
        parts = tl.load(sums_ptr + at, mask=at < programs, other=0.0)
        elements.store_rounded(dp_ptr, tl.sum(parts, axis=0))
    if dn_ptr is not None:
        parts = tl.load(sums_ptr + programs + at, mask=at < programs, other=0.0)
        elements.store_rounded(dn_ptr, tl.sum(parts, axis=0))
    if db_ptr is not None:
        parts = tl.load(sums_ptr + 2 * programs + at, mask=at < programs, other=0.0)
        elements.store_rounded(db_ptr, tl.sum(parts, axis=0))


INTERPRETED: bool = elements.INTERPRETED.value


def _quiet() -> AbstractContextManager[Any]:
    """The interpreter is numpy, which warns of every overflow that the formats are meant to have."""
    return np.errstate(all="ignore") if INTERPRETED else nullcontext()


def _bits(tensor: Tensor) -> Tensor:
    """The tensor as kernels take it: the interpreter reads bf16 as bits."""
    return tensor.view(torch.int16) if INTERPRETED and tensor.dtype == torch.bfloat16 else tensor


def _format(tensor: Tensor) -> int:
    """How the tensor's elements are stored."""
    return BITS.value if INTERPRETED and tensor.dtype == torch.bfloat16 else FORMATS[tensor.dtype]


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Makes the tensor's device the current one, which Triton launches on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _roots(parameters: tuple[Tensor, Tensor, Tensor], fmt: int, slope: bool) -> Tensor:
    """The numbers that `roots_kernel` finds, on their way to the next kernel."""
    dtype = torch.float64 if fmt == FP32.value else torch.float32
    found = torch.empty(5, dtype=dtype, device=parameters[1].device)
    roots_kernel[(1,)](
        _bits(parameters[1]), _bits(parameters[2]), found, FORMAT=fmt, SLOPE=slope, num_warps=1,
        enable_fp_fusion=OPTIONS["enable_fp_fusion"],
    )  # fmt: skip
    return found


def forward(kind: str, x: Tensor, parameters: tuple[Tensor, Tensor, Tensor], each: bool) -> Tensor:
    """f(x) of a dense tensor in memory order: one kernel, and one more for the root of a single xIELU.

    Args:
        kind: "xielu" or "xiprelu". x: float32, float16 or bfloat16, no gaps between its elements.
        parameters: α_p, α_n and β, one element each, of float64 or a dtype that x may have; or with `each`
            float64, laid out like x.
    """
    y = torch.empty_like(x)
    n = x.numel()
    if n == 0:
        return y
    fmt = _format(x)
    with _quiet(), on_device_of(x):
        roots = _roots(parameters, fmt, False) if kind == "xielu" and not each else None
        options = OPTIONS if each or fmt == FP32.value else OPTIONS | FEW
        forward_kernel[(min(triton.cdiv(n, FORWARD_BLOCK), PROGRAMS),)](
            _bits(x), _bits(y), *map(_bits, parameters), roots, n,
            KIND=KINDS[kind], FORMAT=fmt, EACH=each, BLOCK=FORWARD_BLOCK, **options,
        )  # fmt: skip
    return y


def backward(
    kind: str,
    dy: Tensor,
    x: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor],
    each: bool,
    wanted: Sequence[bool],
    dtypes: Sequence[torch.dtype] = (torch.float64,) * 3,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """dx and the gradients of α_p, α_n and β: like these, or with `each` one for each element.

    One kernel; one more, before it, for the root of a single xIELU in fp32; and one after it that adds up the
    sums, if any is wanted.

    Args:
        dy: like x in dtype and memory order; the others as `forward`.
        wanted: of α_p, α_n and β, whether its sum is; else it is None.
        dtypes: of those for each element.
    """
    dx = torch.empty_like(x)
    n, fmt = x.numel(), _format(x)
    programs = min(triton.cdiv(n, BACKWARD_ROWS * COLUMNS.value), PROGRAMS)
    summed = [w and not each for w in wanted]
    sums = torch.empty(3, programs, dtype=torch.float64, device=x.device) if any(summed) else dx
    gradients = [torch.empty_like(x, dtype=dtype) if each else None for dtype in dtypes]
    places = (sums, sums, sums) if not each else [_bits(g) for g in gradients if g is not None]
    with _quiet(), on_device_of(x):
        if n:
            alone = kind == "xielu" and not each and fmt == FP32.value
            roots = _roots(parameters, fmt, True) if alone else None
            backward_kernel[(programs,)](
                _bits(dy), _bits(x), _bits(dx), *map(_bits, parameters), roots, *places, sums, n,
                KIND=KINDS[kind], FORMAT=fmt, EACH=each, ROWS=BACKWARD_ROWS,
                SUM_P=summed[0], SUM_N=summed[1], SUM_B=summed[2], **OPTIONS,
            )  # fmt: skip
        if any(summed):
            gradients = [torch.empty_like(p) if w else None for p, w in zip(parameters, summed, strict=True)]
            written = [None if g is None else _bits(g) for g in gradients]
            finish_kernel[(1,)](sums, *written, programs, SIZE=PROGRAMS)
    return dx, gradients[0], gradients[1], gradients[2]
