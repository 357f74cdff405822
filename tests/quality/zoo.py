"""Faulty kernels, each wrong in one way that was seen in the wild or lies one step from it.

Every specimen starts from `right`, which computes in float64 and rounds once, and changes one thing.
Its kernel stands in this module under its own name, so that `zoo.py:NAME` is a TARGET.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Specimen:
    """A kernel and what must be found in it.

    Attributes:
        kernel: or a TARGET.
        kinds: of the faults reported, or of what keeps a verdict open, one must be of these.
        isolate: it must be run in a process of its own.
        budget: seconds for large calls, which few specimens need.
    """

    name: str
    kernel: Any
    fault: str
    kinds: tuple[str, ...]
    function: str = "xielu"
    fmts: tuple[str, ...] = ("bf16",)
    outputs: tuple[str, ...] | None = None
    params: Mapping[str, float] | None = None
    max_ulp: float = 1.0
    isolate: bool = False
    framework: str | None = None
    properties: tuple[str, ...] | bool = True
    budget: float = 0.05
    device: str = "cpu"


ZOO: list[Specimen] = []


def specimen(fault: str, *kinds: str, **options: Any) -> Callable[[Any], Any]:
    def add(kernel: Any) -> Any:
        ZOO.append(Specimen(kernel.__name__, kernel, fault, kinds, **options))
        return kernel

    return add


# -- the right kernel -----------------------------------------------------------------------


def growth_minus_x(x: Tensor) -> Tensor:
    """e^x − 1 − x in float64: its series where it cancels."""
    small = x.clamp(-0.5, 0.5)
    series = torch.zeros_like(x)
    for k in range(16, 1, -1):
        series = (1 + series) * small / k
    # The loop gives x/2·(1 + x/3·(1 + …)): one factor x is missing.
    return torch.where(x.abs() < 0.5, series * small, torch.expm1(x) - x)


def curve(x: Tensor, p: Tensor, n: Tensor, b: Tensor) -> Tensor:
    left = torch.where(x > -0.5, n * growth_minus_x(x) + b * x, n * torch.expm1(x) + (b - n) * x)
    return torch.where(x > 0, x * (p * x + b), left)


class _Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *params: Tensor) -> Tensor:
        ctx.save_for_backward(x, *params)
        return curve(x.double(), *(t.double() for t in params)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        x, *params = ctx.saved_tensors
        X, p, n, b = (t.double() for t in (x, *params))
        g = upstream.double()
        zero = torch.zeros_like(X)
        slopes = (
            torch.where(X > 0, 2 * p * X + b, n * torch.expm1(X) + b),
            torch.where(X > 0, X * X, zero),
            torch.where(X <= 0, growth_minus_x(X), zero),
            X,
        )
        return tuple(
            (g * s).sum_to_size(t.shape).to(t.dtype) for s, t in zip(slopes, (x, *params), strict=True)
        )


def right(x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    return _Right.apply(x, alpha_p, alpha_n, beta)


class _Replace(torch.autograd.Function):
    """Another forward value; the gradient stays."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, other: Tensor) -> Tensor:
        return other.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream, None


def replaced(y: Tensor, other: Tensor) -> Tensor:
    return _Replace.apply(y, other.detach())


class _Through(torch.autograd.Function):
    """Another gradient; the forward value stays."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.change(upstream), None


def with_gradient(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return _Through.apply(x, change)


def stepped(y: Tensor, where: Tensor, steps: int = 1) -> Tensor:
    """Magnitudes `steps` floats larger where it says; y is 16 or 32 bits wide."""
    integer = {2: torch.int16, 4: torch.int32}[y.element_size()]
    finite = torch.isfinite(y) & (y != 0) & where
    bits = y.detach().contiguous().view(integer)
    return torch.where(finite, (bits + steps).view(y.dtype), y.detach())


# -- wrong values ---------------------------------------------------------------------------


@specimen("every result one float too large: a rounding mode left switched", "inaccurate")
def one_ulp_bias(x, **p):
    y = right(x, **p)
    return replaced(y, stepped(y, torch.ones_like(x, dtype=torch.bool)))


@specimen("results in one binade two floats too large: one wrong table entry", "inaccurate")
def one_binade(x, **p):
    y = right(x, **p)
    return replaced(y, stepped(y, (x >= 4) & (x < 8), 2))


@specimen("one of 65536 bit patterns wrong: a corner case typed by hand", "inaccurate")
def one_pattern(x, **p):
    y = right(x, **p)
    return replaced(y, stepped(y, x == -1.1640625, 3))


@specimen("bf16 results cut off instead of rounded", "biased")
def truncates(x, **p):
    y = curve(x.detach().double(), *(p[k].detach().double() for k in ("alpha_p", "alpha_n", "beta"))).float()
    cut = (y.contiguous().view(torch.int32) & -65536).view(torch.float32).to(x.dtype)
    return replaced(right(x, **p), cut if x.dtype == torch.bfloat16 else y.to(x.dtype))


@specimen("rounded to fp16 on the way to bf16", "nonfinite", "inaccurate")
def through_half(x, **p):
    y = right(x, **p)
    return replaced(y, y.half().to(x.dtype))


@specimen("computed in bf16 inside a float32 kernel", "inaccurate", fmts=("fp32",), outputs=("forward",))
def narrow_inside(x, **p):
    y = right(x, **p)
    inside = right(x.detach().bfloat16(), **{k: v.detach().bfloat16() for k, v in p.items()})
    return replaced(y, inside.to(x.dtype))


@specimen(
    "a float64 input computed in float32", "inaccurate", "nonfinite", fmts=("fp64",), outputs=("forward",)
)
def truncated_input(x, **p):
    y = right(x, **p)
    return replaced(y, right(x.detach().float(), **{k: v.detach().float() for k, v in p.items()}).to(x.dtype))


@specimen("exp(x) − 1 instead of expm1(x)", "inaccurate", "wrong_sign", outputs=("forward",))
def exp_minus_one(x, *, alpha_p, alpha_n, beta):
    left = alpha_n * (torch.exp(x.clamp(max=0)) - 1 - x.clamp(max=0)) + beta * x
    return torch.where(x > 0, x * (alpha_p * x + beta), left)


@specimen("d/dα_n as expm1(x) − x, which cancels", "inaccurate", outputs=("grad_alpha_n",))
def cancelling_gradient(x, *, alpha_p, alpha_n, beta):
    c = x.clamp(max=0)
    return torch.where(x > 0, x * (alpha_p * x + beta), alpha_n * (torch.expm1(c) - c) + beta * x)


@specimen("exp by three terms of a series in 2^f: the fast exp of graphics", "inaccurate")
def fast_exp(x, *, alpha_p, alpha_n, beta):
    t = (x.detach().double().clamp(-80, 0)) * 1.4426950408889634
    whole = torch.floor(t)
    f = t - whole
    e = torch.exp2(whole) * (1 + f * (0.6565 + f * 0.3435))
    left = alpha_n.double() * (e - 1 - x.double()) + beta.double() * x.double()
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(y, torch.where(x > 0, y, left.to(x.dtype)))


@specimen("a series for e^x used far beyond its range", "inaccurate", "wrong_sign", "nonfinite")
def series_everywhere(x, *, alpha_p, alpha_n, beta):
    X = x.detach().double()
    left = alpha_n.double() * X * X / 2 * (1 + X / 3 * (1 + X / 4)) + beta.double() * X
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(y, torch.where(x > 0, y, left.to(x.dtype)))


@specimen("a table of 256 entries, nearest entry taken", "inaccurate", outputs=("forward",))
def table_lookup(x, **p):
    y = right(x, **p)
    near = (x.detach() * 64).round() / 64
    inside = (x > -2) & (x < 0)
    return replaced(y, torch.where(inside, right(near, **{k: v.detach() for k, v in p.items()}), y))


@specimen("min(x, −1e-6) inside the exponential: the published listing", "wrong_sign", "inaccurate")
def eps_clamp(x, *, alpha_p, alpha_n, beta):
    c = torch.minimum(x, torch.tensor(-1e-6, dtype=x.dtype))
    return torch.where(x > 0, x * (alpha_p * x + beta), alpha_n * (torch.expm1(c) - x) + beta * x)


@specimen("the gradient of the clamp alone: d/dx of min(x, −1e-6)", "wrong_sign", outputs=("grad_x",))
def clamped_gradient(x, *, alpha_p, alpha_n, beta):
    wrong = ((x > -1e-6) & (x <= 0)).detach()
    values = (beta - alpha_n).detach()
    change = lambda g: torch.where(wrong, values.to(g.dtype), g)  # noqa: E731
    return right(with_gradient(x, change), alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)


@specimen("the sign lost just below 0", "wrong_sign", outputs=("forward",))
def wrong_sign_near_zero(x, **p):
    y = right(x, **p)
    return replaced(y, torch.where((x < 0) & (x > -(2.0**-20)), -y, y))


@specimen("−α·x + β·x apart, which is inf − inf", "nonfinite")
def inf_minus_inf(x, *, alpha_p, alpha_n, beta):
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(y, torch.where(x == -torch.inf, -alpha_n * x + beta * x, y))


@specimen("x·x before the coefficient, which overflows early", "nonfinite", fmts=("fp16",))
def early_overflow(x, *, alpha_p, alpha_n, beta):
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(y, torch.where(x > 0, alpha_p * (x * x) + beta * x, y))


@specimen(
    "saturates at the largest number instead of overflowing",
    "nonfinite",
    fmts=("fp16",),
    outputs=("forward",),
)
def saturates(x, **p):
    y = right(x, **p)
    largest = torch.finfo(x.dtype).max
    return replaced(y, y.clamp(-largest, largest))


@specimen("0·inf = NaN from the branch torch.where discards", "nonfinite", outputs=("grad_x",))
def nan_gradient(x, *, alpha_p, alpha_n, beta):
    y = torch.where(x > 0, x * 0, alpha_n * torch.expm1(x) * 0)
    return right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta) + y.nan_to_num(0.0, 0.0, 0.0)


@specimen("subnormal results set to 0", "flushes_subnormals", outputs=("forward",))
def flushes_results(x, **p):
    y = right(x, **p)
    return replaced(y, torch.where(y.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(y), y))


@specimen("subnormal inputs read as 0", "flushes_subnormals", outputs=("forward",), fmts=("fp16",))
def flushes_inputs(x, **p):
    y = right(x, **p)
    return replaced(y, torch.where(x.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(y), y))


@specimen("x > −1e-3 where x > 0 is meant", "inaccurate", outputs=("forward",))
def wrong_threshold(x, *, alpha_p, alpha_n, beta):
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(y, torch.where(x > -1e-3, x * (alpha_p * x + beta), y))


@specimen(
    "x ≥ 0 where the gradient at 0 belongs to the left", "inaccurate", function="relu", outputs=("grad_x",)
)
def right_at_zero(x):
    slope = (x >= 0).to(x.dtype)
    return replaced(x * slope.detach(), torch.relu(x))


@specimen("α_p and α_n swapped", "inaccurate", params={"alpha_p": 0.8, "alpha_n": 1.2})
def swapped(x, *, alpha_p, alpha_n, beta):
    return right(x, alpha_p=alpha_n, alpha_n=alpha_p, beta=beta)


@specimen("β forgotten", "inaccurate", "wrong_sign")
def beta_dropped(x, *, alpha_p, alpha_n, beta):
    return right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta * 0)


@specimen("β forgotten in the backward", "inaccurate", "wrong_sign", outputs=("forward", "grad_x"))
def beta_dropped_backward(x, **p):
    y = right(x, **{**p, "beta": p["beta"] * 0})
    return replaced(y, right(x.detach(), **{k: v.detach() for k, v in p.items()}))


@specimen("β is 0.5 whatever the caller says", "inaccurate", "stale_parameters", params={"beta": 0.25})
def fixed_beta(x, *, alpha_p, alpha_n, beta):
    return right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta * 0 + 0.5)


@specimen("α rounded to bf16 in a float32 kernel", "inaccurate", fmts=("fp32",), outputs=("forward",))
def alpha_in_bf16(x, *, alpha_p, alpha_n, beta):
    return right(x, alpha_p=alpha_p.bfloat16().float(), alpha_n=alpha_n.bfloat16().float(), beta=beta)


@specimen("α kept in E4M3", "inaccurate", params={"alpha_p": 0.85, "alpha_n": 0.85})
def alpha_in_fp8(x, *, alpha_p, alpha_n, beta):
    stored = [replaced(a, a.detach().to(torch.float8_e4m3fn).to(a.dtype)) for a in (alpha_p, alpha_n)]
    return right(x, alpha_p=stored[0], alpha_n=stored[1], beta=beta)


@specimen("softplus applied to an α that is effective already", "inaccurate")
def softplus_twice(x, *, alpha_p, alpha_n, beta):
    softened = torch.nn.functional.softplus(alpha_p), torch.nn.functional.softplus(alpha_n)
    return right(x, alpha_p=softened[0], alpha_n=softened[1], beta=beta)


@specimen("softplus as log(1 + e^x): overflows, and loses small values", "nonfinite", function="softplus")
def softplus_by_hand(x):
    return torch.log(1 + torch.exp(x))


@specimen("the tanh form sold as GELU", "inaccurate", function="gelu", outputs=("forward",))
def gelu_is_tanh(x):
    return torch.nn.functional.gelu(x, approximate="tanh")


@specimen("x·e^x/(1 + e^x): NaN for large x", "nonfinite", function="silu", outputs=("forward",))
def silu_overflows(x):
    return x * (torch.exp(x) / (1 + torch.exp(x)))


@specimen("the gradient of ReLU² without its 2", "inaccurate", function="relu2")
def relu2_gradient(x):
    y = torch.relu(x)
    return replaced(y * y.detach(), y * y)


@specimen("gradients by central differences", "inaccurate", outputs=("grad_x",))
def finite_differences(x, **p):
    fixed = {k: v.detach() for k, v in p.items()}
    h = 2.0**-4
    ahead, behind = right(x.detach() + h, **fixed), right(x.detach() - h, **fixed)
    return replaced(x * ((ahead - behind) / (2 * h)), right(x.detach(), **fixed))


@specimen("d/dβ only for x > 0", "inaccurate", outputs=("grad_beta",))
def half_of_beta(x, *, alpha_p, alpha_n, beta):
    inner = beta + torch.zeros_like(x)
    masked = with_gradient(inner, lambda g: torch.where(x > 0, g, torch.zeros_like(g)))
    return right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=masked)


@specimen("the derivative of one branch used for both", "inaccurate", "wrong_sign", outputs=("grad_x",))
def one_branch_gradient(x, *, alpha_p, alpha_n, beta):
    slope = (2 * alpha_p * x + beta).detach()
    y = right(x.detach(), alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    return replaced(x * slope, y)


# -- wrong only somewhere -------------------------------------------------------------------


@specimen("exp(x) − 1 in full vectors of eight, expm1 in the tail", "inaccurate", outputs=("forward",))
def lanes_differ(x, **p):
    y, n = right(x, **p), x.numel() // 8 * 8
    flat = y.detach().reshape(-1).clone()
    flat[:n] = exp_minus_one(x.detach().reshape(-1)[:n], **_first(p))
    return replaced(y, flat.reshape(x.shape))


def _first(p: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters as numbers, where they come as many times as there are elements."""
    return {k: v.detach().reshape(-1)[0] if v.numel() else v.detach().new_zeros(()) for k, v in p.items()}


@specimen("expm1 in full vectors, exp(x) − 1 in the tail", "depends_on_length", outputs=("forward",))
def tail_differs(x, **p):
    y, n = right(x, **p), x.numel() // 8 * 8
    flat = y.detach().reshape(-1).clone()
    flat[n:] = exp_minus_one(x.detach().reshape(-1)[n:], **_first(p))
    return replaced(y, flat.reshape(x.shape))


@specimen("the last n mod 8 elements never written", "unwritten_output")
def tail_unwritten(x, **p):
    y, n = right(x, **p), x.numel() // 8 * 8
    out = torch.empty(x.numel(), dtype=x.dtype)
    out[:n] = y.detach().reshape(-1)[:n]
    return replaced(y, out.reshape(x.shape))


@specimen("the last element of an odd length never written", "unwritten_output")
def odd_unwritten(x, **p):
    y = right(x, **p)
    out = torch.empty(x.numel(), dtype=x.dtype)
    n = x.numel() - x.numel() % 2
    out[:n] = y.detach().reshape(-1)[:n]
    return replaced(y, out.reshape(x.shape))


@specimen(
    "a gradient buffer whose last element is never written", "unwritten_output", outputs=("forward", "grad_x")
)
def gradient_unwritten(x, **p):
    def change(g):
        out = torch.empty_like(g)
        flat, source = out.reshape(-1), g.reshape(-1)
        flat[: source.numel() // 4 * 4] = source[: source.numel() // 4 * 4]
        return flat.reshape(g.shape)

    return right(with_gradient(x, change), **p)


@specimen("wrong for 65536 elements and more: a grid that ends", "inaccurate", "depends_on_length")
def long_is_wrong(x, **p):
    y = right(x, **p)
    flat = y.detach().reshape(-1).clone()
    flat[65535:] = 0
    return replaced(y, flat.reshape(x.shape))


@specimen("wrong beyond 65536 elements: a 16-bit index", "depends_on_length")
def index_wraps(x, **p):
    y = right(x, **p)
    flat = y.detach().reshape(-1)
    return replaced(y, flat[torch.arange(flat.numel()) % 65536].reshape(x.shape))


@specimen("odd lengths in lower precision", "depends_on_length", outputs=("forward",))
def odd_is_worse(x, **p):
    y = right(x, **p)
    if x.numel() % 2 == 0:
        return y
    return replaced(y, exp_minus_one(x.detach(), **{k: v.detach() for k, v in p.items()}))


@specimen("the first element twice where memory begins off a 16-byte boundary", "depends_on_position")
def misaligned(x, **p):
    y = right(x, **p)
    if x.storage_offset() % 8 == 0 or x.numel() < 2:
        return y
    flat = y.detach().reshape(-1).clone()
    flat[1] = flat[0]
    return replaced(y, flat.reshape(x.shape))


@specimen("two-dimensional inputs handled by rows of a power of two", "depends_on_position")
def rows_padded(x, **p):
    y = right(x, **p)
    if x.dim() < 2 or x.shape[-1] == 0 or x.shape[-1] & (x.shape[-1] - 1) == 0:
        return y
    other = y.detach().clone()
    other[..., -1] = 0
    return replaced(y, other)


@specimen("an input read as contiguous that is not", "misreads_strides", outputs=("forward",))
def reads_contiguous(x, **p):
    y = right(x, **p)
    base = torch.as_strided(x.detach(), (min(x.numel(), _room(x)),), (1,), x.storage_offset())
    if base.numel() < x.numel():
        return y
    return replaced(y, right(base, **_first(p)).reshape(x.shape))


def _room(x: Tensor) -> int:
    return x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()


@specimen("a transposed result written in the order of memory", "misreads_strides", outputs=("forward",))
def writes_contiguous(x, **p):
    y = right(x, **p)
    if x.dim() != 2 or x.is_contiguous() or 1 in x.stride():
        other = y.detach()
        if x.dim() == 2 and not x.is_contiguous() and x.stride(0) == 1:
            other = other.t().contiguous().reshape(x.shape)
        return replaced(y, other)
    return y


@specimen(
    "an upstream gradient read as contiguous that is not", "misreads_upstream", outputs=("forward", "grad_x")
)
def upstream_contiguous(x, **p):
    def change(g):
        # g is slope·upstream: what a transposed upstream would have given if read in order of memory.
        return g

    y = right(with_gradient(x, change), **p)
    return _reordered(y)


class _Reordered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        if g.is_contiguous() or _room(g) < g.numel():
            return g
        return torch.as_strided(g, (g.numel(),), (1,), g.storage_offset()).reshape(g.shape)


def _reordered(y: Tensor) -> Tensor:
    return _Reordered.apply(y)


@specimen(
    "an expanded upstream gradient read beyond its one element",
    "misreads_upstream",
    outputs=("forward", "grad_x"),
)
def upstream_expanded(x, **p):
    return _Expanded.apply(right(x, **p))


class _Expanded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        if 0 in g.stride() and g.numel() > 1:
            out = torch.zeros(g.shape, dtype=g.dtype)  # what happened to lie behind it
            out.reshape(-1)[0] = g.reshape(-1)[0]
            return out
        return g


# -- wrong as a function of autograd --------------------------------------------------------


@specimen("the upstream gradient taken for ones", "ignores_upstream", outputs=("forward", "grad_x"))
def upstream_ignored(x, **p):
    return _Ones.apply(right(x, **p))


class _Ones(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.ones_like(g)


@specimen("only the size of the upstream gradient used", "ignores_upstream", outputs=("forward", "grad_x"))
def upstream_sign_lost(x, **p):
    return _Size.apply(right(x, **p))


class _Size(_Ones):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.abs()


@specimen(
    "one upstream number for all: the first",
    "ignores_upstream",
    "misreads_upstream",
    outputs=("forward", "grad_x"),
)
def upstream_first(x, **p):
    return _FirstOnly.apply(right(x, **p))


class _FirstOnly(_Ones):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.reshape(-1)[:1].expand(g.numel()).reshape(g.shape).clone() if g.numel() else g


@specimen("no gradient at all: detached", "not_differentiable", outputs=("forward", "grad_x"))
def detached(x, **p):
    return right(x.detach(), **{k: v.detach() for k, v in p.items()})


@specimen("no gradient for α_n", "not_differentiable")
def alpha_detached(x, *, alpha_p, alpha_n, beta):
    return right(x, alpha_p=alpha_p, alpha_n=alpha_n.detach(), beta=beta)


@specimen("the backward raises", "raised", outputs=("forward", "grad_x"))
def backward_raises(x, **p):
    def change(g):
        raise NotImplementedError("backward")

    return right(with_gradient(x, change), **p)


@specimen("right while gradients are recorded, worse without", "depends_on_grad_mode")
def inference_differs(x, **p):
    if torch.is_grad_enabled():
        return right(x, **p)
    return exp_minus_one(x, **p)


# -- parameters' gradients ------------------------------------------------------------------


def _summed(change: Callable[[Tensor], Tensor]) -> Any:
    """A kernel whose gradients of 0-d parameters are summed by `change`, given the terms in float64."""

    class Summed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *params: Tensor) -> Tensor:
            ctx.save_for_backward(x, *params)
            return curve(x.double(), *(t.double() for t in params)).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
            x, *params = ctx.saved_tensors
            grads = list(_Right.backward(ctx, upstream))
            X, g = x.double(), upstream.double()
            zero = torch.zeros_like(X)
            terms = (torch.where(X > 0, X * X, zero), torch.where(X <= 0, growth_minus_x(X), zero), X)
            for i, (t, param) in enumerate(zip(terms, params, strict=True), start=1):
                if param.numel() == 1 and x.numel() > 1:
                    grads[i] = change((g * t).reshape(-1)).reshape(param.shape).to(param.dtype)
            return tuple(grads)

    return lambda x, *, alpha_p, alpha_n, beta: Summed.apply(x, alpha_p, alpha_n, beta)


def _partial_sums(terms: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.bfloat16)
    for block in terms.split(64):
        total = total + block.sum().bfloat16()
    return total.double()


def _without_last_block(terms: Tensor) -> Tensor:
    return terms[: terms.numel() // 256 * 256].sum()


def _first_block_twice(terms: Tensor) -> Tensor:
    return terms.sum() + terms[:32].sum()


def _sides_apart(terms: Tensor) -> Tensor:
    """Positive and negative terms added up apart in fp16: of many, infinity less infinity."""
    return (terms.clamp(min=0).sum().half() + terms.clamp(max=0).sum().half()).double()


def _shuffled(terms: Tensor) -> Tensor:
    order = torch.randperm(terms.numel())
    return terms[order].bfloat16().float().cumsum(0).bfloat16()[-1:].double().sum() + terms[order][:0].sum()


def _atomic(terms: Tensor) -> Tensor:
    """Blocks added in an order that changes from call to call, as atomics do, in float32."""
    parts = terms.float()[torch.randperm(terms.numel())].split(7)
    total = torch.zeros(())
    for part in parts[:400]:
        total = total + part.sum()
    rest = torch.cat(parts[400:]).sum() if len(parts) > 400 else torch.zeros(())
    return (total + rest * (1 + 2.0**-7 * torch.rand(()))).double()


@specimen("partial sums of d/dα kept in bf16", "reduction_inaccurate")
def sums_in_bf16(x, **p):
    return _summed(_partial_sums)(x, **p)


@specimen(
    "each branch's part of d/dβ in fp16: over 2^17 elements both overflow, and the sum is NaN",
    "reduction_inaccurate", fmts=("fp16",),
)  # fmt: skip
def sides_overflow(x, **p):
    return _summed(_sides_apart)(x, **p)


@specimen(
    "positive and negative terms of d/dα_p in fp16: where pairs cancel, infinity less infinity",
    "reduction_inaccurate", fmts=("fp16",), outputs=("forward", "grad_x", "grad_alpha_p"),
)  # fmt: skip
def cancelling_sides_overflow(x, **p):
    return _summed(_sides_apart)(x, **p)


@specimen("the last, incomplete block left out of d/dα", "reduction_incomplete")
def last_block_missing(x, **p):
    return _summed(_without_last_block)(x, **p)


@specimen("the first warp's elements counted twice in d/dα", "reduction_incomplete")
def first_block_twice(x, **p):
    return _summed(_first_block_twice)(x, **p)


@specimen("d/dα added up in an order that changes", "not_deterministic")
def unordered_sum(x, **p):
    return _summed(_atomic)(x, **p)


@specimen("d/dα as the mean over the tensor", "reduction_incomplete", "reduction_inaccurate")
def mean_for_sum(x, **p):
    return _summed(torch.mean)(x, **p)


# -- state ----------------------------------------------------------------------------------


@specimen("noise of one float", "not_deterministic")
def noisy(x, **p):
    y = right(x, **p)
    return replaced(y, stepped(y, torch.rand(x.shape) < 0.5))


class _InPlace(torch.autograd.Function):
    """d/dx is formed where the derivative was kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = (x > 0).to(x.dtype)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return ctx.slope.mul_(upstream).clone()


@specimen("the backward writes d/dx over the derivative it kept: a second one has its upstream squared",
          "not_deterministic", function="relu")  # fmt: skip
def second_backward(x):
    return _InPlace.apply(x)


@specimen("a faster, worse exponential in inference mode", "depends_on_grad_mode", function="elu",
          outputs=("forward", "grad_x"))  # fmt: skip
def inference_is_worse(x):
    y = F.elu(x.double()).to(x.dtype)
    return torch.where(x > 0, x, torch.exp(x) - 1) if torch.is_inference_mode_enabled() else y


_CACHE: dict[Any, Any] = {}


@specimen("parameters kept from the first call with their tensors", "stale_parameters")
def cached_by_identity(x, **p):
    key = tuple(id(v) for v in p.values())
    if key not in _CACHE:
        _CACHE[key] = {k: v.detach().clone() for k, v in p.items()}, p
    kept, _ = _CACHE[key]
    y = right(x, **p)
    fits = all(v.shape == p[k].shape for k, v in kept.items())
    return replaced(y, right(x.detach(), **kept)) if fits else y


_LAST: dict[Any, Tensor] = {}


@specimen("the last result given back for an input of the same size", "inaccurate", "stale_parameters",
          "depends_on_position", "depends_on_length", "misreads_strides")  # fmt: skip
def cached_by_size(x, **p):
    y = right(x, **p)
    key = (x.shape, x.dtype)
    other = _LAST.get(key, y.detach())
    _LAST[key] = y.detach().clone()
    return replaced(y, other)


@specimen("x clamped in place", "writes_input")
def writes_x(x, **p):
    y = right(x, **p)
    with torch.no_grad():
        x.clamp_(max=100.0)
    return y


@specimen("a parameter overwritten", "writes_input", "stale_parameters", "not_deterministic")
def writes_parameter(x, *, alpha_p, alpha_n, beta):
    y = right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)
    with torch.no_grad():
        alpha_p.clamp_(max=0.5)
    return y


@specimen("the upstream gradient overwritten", "writes_input", outputs=("forward", "grad_x"))
def writes_upstream(x, **p):
    return _Scales.apply(right(x, **p))


class _Scales(_Ones):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        kept = g.clone()
        with torch.no_grad():
            g.zero_()
        return kept


@specimen("flush-to-zero switched on for the process", "alters_environment")
def switches_flushing(x, **p):
    torch.set_flush_denormal(True)
    return right(x, **p)


@specimen("torch's default dtype changed", "alters_environment")
def switches_dtype(x, **p):
    y = right(x, **p)
    torch.set_default_dtype(torch.float64)
    return y


# -- wrong answers --------------------------------------------------------------------------


@specimen("float32 results for bf16 inputs", "wrong_dtype", outputs=("forward",))
def wide_result(x, **p):
    return right(x, **p).float()


@specimen("a result on another device", "wrong_device", outputs=("forward",))
def elsewhere(x, **p):
    return right(x, **p).to("meta")


@specimen("an array instead of a tensor", "wrong_dtype", outputs=("forward",))
def gives_array(x, **p):
    return right(x, **p).detach().float().numpy()


@specimen("a result with one dimension more", "wrong_shape", outputs=("forward",))
def extra_dimension(x, **p):
    return right(x, **p).unsqueeze(-1)


@specimen("flattened results", "wrong_shape", outputs=("forward", "grad_x"))
def flattened(x, **p):
    return right(x, **p).reshape(-1)


@specimen("empty tensors raise", "refuses_shapes")
def empty_raises(x, **p):
    if x.numel() == 0:
        raise RuntimeError("grid must be positive")
    return right(x, **p)


@specimen("0-d tensors raise", "refuses_shapes")
def scalar_raises(x, **p):
    x.shape[-1]
    return right(x, **p)


@specimen("a NaN among the inputs raises", "raised", outputs=("forward",))
def nan_raises(x, **p):
    assert not torch.isnan(x).any(), "NaN"
    return right(x, **p)


@specimen("NaN inputs give numbers: a maximum that drops them", "nonfinite", outputs=("forward",))
def nan_swallowed(x, **p):
    y = right(x, **p)
    return replaced(y, y.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf))


@specimen("a missing dependency", "missing_dependency", outputs=("forward",))
def imports_missing(x, **p):
    import no_such_accelerator

    return no_such_accelerator.run(x)


# -- another under the compiler -------------------------------------------------------------


@specimen(
    "expm1 in eager mode, exp − 1 once compiled, as torch's own elu", "depends_on_compilation",
    function="elu", outputs=("forward",), properties=("compilation",),
)  # fmt: skip
def compiled_otherwise(x):
    growth = torch.exp(x) - 1 if torch.compiler.is_compiling() else torch.expm1(x)
    return torch.where(x > 0, x, growth)


# -- no answers -----------------------------------------------------------------------------


@specimen("hangs on one input", "hung", outputs=("forward",), isolate=True)
def hangs_on_one(x, **p):
    if (x == 1.5).any():
        time.sleep(3600)
    return right(x, **p)


@specimen("reads address 0 for 4096 elements and more", "crashed", outputs=("forward",), isolate=True)
def segfaults(x, **p):
    if x.numel() >= 4096:
        ctypes.string_at(0)
    return right(x, **p)


@specimen("aborts on a view", "crashed", outputs=("forward",), isolate=True)
def aborts(x, **p):
    if not x.is_contiguous():
        os.abort()
    return right(x, **p)


@specimen("killed, as for want of memory", "out_of_memory", outputs=("forward",), isolate=True)
def killed(x, **p):
    os.kill(os.getpid(), 9)


@specimen("ends the process with success", "crashed", outputs=("forward",), isolate=True)
def exits(x, **p):
    os._exit(0)


# -- what was passed unexamined ---------------------------------------------------------------


def _silu(x: Tensor) -> Tensor:
    v = x.double()
    return torch.where(v == -torch.inf, -0.0, v * torch.sigmoid(v)).to(x.dtype)


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _silu(x)

    @staticmethod
    def slope(ctx: Any) -> Tensor:
        v = ctx.saved_tensors[0].double()
        s, r = torch.sigmoid(v), torch.sigmoid(-v)
        return torch.where(torch.isinf(v), s, s * (1 + v * r))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return (_Silu.slope(ctx) * upstream.double()).to(upstream.dtype)


@specimen(
    "all but multiples of 16 bytes refused; behind the refusal x is overwritten",
    "writes_input",
    function="silu",
)
def refuses_and_writes(x):
    if x.numel() * x.element_size() % 16:
        raise ValueError("the size must be a multiple of 16 bytes")
    y = _Silu.apply(x.clone())
    x.data.reshape(-1)[:1] = 7
    return y


@specimen("odd numbers of elements refused", "refuses_lengths", function="silu")
def refuses_odd(x):
    assert x.numel() % 2 == 0, "even sizes only"
    return _Silu.apply(x)


@specimen("all but two dimensions refused", "refuses_shapes", function="silu")
def refuses_vectors(x):
    _tokens, _width = x.shape
    return _Silu.apply(x)


@specimen("only rows of a multiple of 8 accepted, and strides misread behind that", "misreads_strides",
          function="silu", outputs=("forward",))  # fmt: skip
def refuses_and_misreads(x):
    _tokens, width = x.shape
    if width % 8:
        raise ValueError("the width must be a multiple of 8")
    base = torch.as_strided(x, (min(x.numel(), _room(x)),), (1,), x.storage_offset())
    return _silu(base.reshape(x.shape)) if base.numel() == x.numel() else _silu(x)


@specimen("rows whose width is 4 mod 8 read as if aligned to 8", "depends_on_length", function="silu",
          outputs=("forward",))  # fmt: skip
def width_of_four(x):
    y = _silu(x)
    if y.dim() and y.numel() and y.shape[-1] % 8 == 4:
        y = y.clone()
        y[..., -4:] = y[..., :4]
    return y


@specimen("width / 8 work-items, rounded down to a power of two", "unwritten_output", function="silu",
          outputs=("forward",))  # fmt: skip
def work_group_of_two(x):
    y = _silu(x)
    items = y.shape[-1] // 8 if y.dim() > 1 else 0
    if y.dim() < 2 or y.shape[-1] % 8 or items <= 32 or not items & (items - 1):
        return y
    n = 8 * (1 << (items.bit_length() - 1))
    out = torch.empty_like(y)
    out[..., :n] = y[..., :n]
    return out


@specimen("wrong beyond 2^20 elements: a grid dimension cut off", "depends_on_length", function="relu",
          outputs=("forward",), budget=2.0)  # fmt: skip
def grid_cut_off(x):
    y = torch.relu(x)
    if y.numel() > 1 << 20:
        y.view(-1)[1 << 20 :] = 0
    return y


@specimen("the second half of a call computed twice when several threads run", "depends_on_length",
          function="relu", outputs=("forward",), budget=2.0)  # fmt: skip
def threads_collide(x):
    y = torch.relu(x)
    if torch.get_num_threads() > 1 and y.numel() > 1:
        flat = y.view(-1)
        flat[flat.numel() // 2 :] *= 2
    return y


_BUFFERS: dict[Any, Tensor] = {}


@specimen("one output buffer for all calls of a shape", "overwrites_result", function="relu",
          outputs=("forward",))  # fmt: skip
def output_reused(x):
    out = _BUFFERS.setdefault((x.shape, x.dtype), torch.empty_like(x))
    out.copy_(torch.relu(x))
    return out


class _Reuses(_Silu):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = _Silu.forward(ctx, x)
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return ctx.y.copy_(_Silu.slope(ctx) * upstream.double()).clone()


@specimen("the backward writes d/dx into the memory of the result", "overwrites_result", function="silu")
def backward_overwrites_y(x):
    return _Reuses.apply(x)


@specimen("x overwritten where no gradient is recorded", "writes_input", function="relu")
def writes_x_under_no_grad(x):
    return torch.relu(x) if torch.is_grad_enabled() else torch.relu_(x)


@specimen("the element behind x overwritten", "writes_outside", function="relu", outputs=("forward",))
def writes_behind_x(x):
    y = torch.relu(x)
    if _room(x) > x.numel() and x.is_contiguous():
        torch.as_strided(x.detach(), (1,), (1,), x.storage_offset() + x.numel()).zero_()
    return y


@specimen("the element behind its own result overwritten", "writes_outside", function="relu",
          outputs=("forward",))  # fmt: skip
def writes_behind_y(x):
    y = torch.empty_like(x)
    y.copy_(torch.relu(x))
    if _room(y) > y.numel() and y.numel() and y.is_contiguous():
        torch.as_strided(y, (1,), (1,), y.storage_offset() + y.numel()).zero_()
    return y


@specimen("the last element smoothed with what lies behind x", "reads_outside", function="relu",
          outputs=("forward",))  # fmt: skip
def reads_behind_x(x):
    y = torch.relu(x)
    if _room(x) > x.numel() and x.is_contiguous() and x.dim():
        behind = torch.as_strided(x.detach(), (1,), (1,), x.storage_offset() + x.numel())
        y = torch.cat([y.reshape(-1)[:-1], (y.reshape(-1)[-1:] + behind * 0.5)]).reshape(x.shape)
    return y


@specimen("reads beyond the end of x, where no memory may be", "crashed", function="relu",
          outputs=("forward",), isolate=True)  # fmt: skip
def reads_unmapped(x):
    ctypes.string_at(x.data_ptr() + x.numel() * x.element_size(), 16)
    return torch.relu(x)


@specimen("garbage written to the descriptor of the lab's report", "disturbs_report", function="relu",
          outputs=("forward",), isolate=True)  # fmt: skip
def writes_descriptors(x):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"done\n")
        except OSError:
            continue
    return torch.relu(x)
