"""Triton kernels as users have them in a file, sound and faulty, for emulated GPUs."""

import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, y_ptr, n, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0) if MASKED else tl.load(x_ptr + at)
    tl.store(y_ptr + at, tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=at < n)


@triton.jit
def silu_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (x / (1.0 + tl.exp(-x))).to(y_ptr.dtype.element_ty), mask=at < n)


# The second configuration leaves out the last element of each block.
@triton.autotune(
    [triton.Config({"BLOCK": 256, "LESS": 0}), triton.Config({"BLOCK": 512, "LESS": 1})], key=["n"]
)
@triton.jit
def tuned_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr, LESS: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    keep = at % BLOCK < BLOCK - LESS
    tl.store(
        y_ptr + at, tl.where(keep, tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL), -1.0), mask=at < n
    )


@triton.autotune([triton.Config({"BLOCK": 256}), triton.Config({"BLOCK": 512})], key=["n"])
@triton.jit
def alike_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(y_ptr + at, tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=at < n)


def launched(kernel, x, **constants):
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        kernel[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x, y, x.numel(), **constants)
    return y


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return launched(relu_kernel, x, MASKED=True, BLOCK=1024)

    @staticmethod
    def backward(ctx, dy):  # torch's own operators
        return dy * (ctx.saved_tensors[0] > 0)


def relu(x):
    return Relu.apply(x)


def unmasked(x):
    """One program too many, whose loads nothing masks."""
    y = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 1024) + 1,)](x, y, x.numel(), MASKED=False, BLOCK=1024)
    return y


def silu(x):
    return launched(silu_kernel, x, BLOCK=1024)


def tuned(x):
    return launched(tuned_kernel, x)


def tuned_alike(x):
    return launched(alike_kernel, x)


def eager(x):
    return torch.relu(x)


def allocates_on_cuda(x):
    """Written for a GPU: names the device itself."""
    y = torch.zeros(x.numel(), device="cuda", dtype=x.dtype)
    relu_kernel[(triton.cdiv(x.numel(), 256),)](x.contiguous(), y, x.numel(), MASKED=True, BLOCK=256)
    return y.reshape(x.shape)


def leaves_the_last(x):
    """The launch is for one element less than there is."""
    y = torch.empty_like(x)
    n = x.numel() - 1
    relu_kernel[(triton.cdiv(n, 1024),)](x, y, n, MASKED=True, BLOCK=1024)
    return y


def rounded_down(x):
    """Whole blocks alone, with no program for what is left."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel() >= 1024:
        relu_kernel[(x.numel() // 1024,)](x, y, x.numel(), MASKED=True, BLOCK=1024)
    return y


def nothing_for_few(x):
    """No launch at all for fewer elements than a warp has."""
    return launched(relu_kernel, x, MASKED=True, BLOCK=256) if x.numel() >= 32 else torch.empty_like(x)


@triton.jit
def relu_backward_kernel(x_ptr, dy_ptr, dx_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    dy = tl.load(dy_ptr + at, mask=at < n, other=0.0)
    tl.store(dx_ptr + at, tl.where(x > 0, dy, tl.where(x == x, dy * 0.0, x)), mask=at < n)


class Trained(torch.autograd.Function):
    """Both ways in Triton; its backward may leave out what is no whole block."""

    @staticmethod
    def forward(ctx, x, whole):
        ctx.save_for_backward(x)
        ctx.whole = whole
        return launched(relu_kernel, x, MASKED=True, BLOCK=1024)

    @staticmethod
    def backward(ctx, dy):
        x, dy = ctx.saved_tensors[0].contiguous(), dy.contiguous()
        dx, n = torch.empty_like(x), x.numel()
        blocks = triton.cdiv(n, 1024) if ctx.whole else n // 1024
        if blocks:
            relu_backward_kernel[(blocks,)](x, dy, dx, n, BLOCK=1024)
        return dx, None


def trained(x):
    return Trained.apply(x, True)


def backward_rounded_down(x):
    return Trained.apply(x, False)


class SumsTooMuch(Relu):
    """Its backward adds up a buffer of which a kernel has filled the first half."""

    @staticmethod
    def backward(ctx, dy):
        buffer = torch.empty(2 * dy.numel(), dtype=dy.dtype, device=dy.device)
        n = dy.numel()
        relu_kernel[(triton.cdiv(n, 1024),)](dy.contiguous(), buffer, n, MASKED=True, BLOCK=1024)
        return dy + 0 * buffer.sum()


def sums_too_much(x):
    return SumsTooMuch.apply(x)


@triton.jit
def wide_relu_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=at < n)


def wide_relu(x):
    """In FP32, whatever is stored."""
    return launched(wide_relu_kernel, x, BLOCK=256)
