"""Faulty kernels whose results are right, and whose gradients, operands or training step are not.

Their accuracy is right in every measurement, where the upstream gradient is 1, an operand the same
everywhere, and each gradient asked for alone. They are added to the zoo's list when this is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from zoo import _Right, replaced, right, specimen

Change = Callable[[Tensor], Tensor]


class _Upstream(torch.autograd.Function):
    """Two results of equal value, each with its own change of the upstream gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, other: Tensor, change: Change, change_other: Change) -> Tensor:
        ctx.changes = change, change_other
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return ctx.changes[0](g), ctx.changes[1](g), None, None


def _same(g: Tensor) -> Tensor:
    return g


def upstream_of_x(change: Change, x: Tensor, **p: Tensor) -> Tensor:
    """The right kernel, but for the upstream gradient that its d/dx sees."""
    fixed = {k: v.detach() for k, v in p.items()}
    return _Upstream.apply(right(x, **fixed), right(x.detach(), **p), change, _same)


def upstream_of_parameters(change: Change, x: Tensor, **p: Tensor) -> Tensor:
    """The right kernel, but for the upstream gradient that its parameters' gradients see."""
    fixed = {k: v.detach() for k, v in p.items()}
    return _Upstream.apply(right(x, **fixed), right(x.detach(), **p), _same, change)


def _in_e4m3(g: Tensor) -> Tensor:
    return g.clamp(-448, 448).to(torch.float8_e4m3fn).to(g.dtype)


# -- what the upstream gradient is ------------------------------------------------------------


@specimen("the upstream gradient clamped at ±4", "ignores_upstream")
def upstream_clamped(x, **p):
    return upstream_of_x(lambda g: g.clamp(-4, 4), x, **p)


@specimen("the upstream gradient clamped at ±2^15", "ignores_upstream", outputs=("forward", "grad_x"))
def upstream_clamped_high(x, **p):
    return upstream_of_x(lambda g: g.clamp(-(2.0**15), 2.0**15), x, **p)


@specimen("an upstream gradient below 1e-4 taken for 0", "ignores_upstream", fmts=("bf16", "fp16"))
def small_upstream_dropped(x, **p):
    return upstream_of_x(lambda g: torch.where(g.abs() < 1e-4, 0.0, g), x, **p)


@specimen("the upstream gradient rounded to E4M3", "ignores_upstream", outputs=("forward", "grad_x"))
def upstream_in_e4m3(x, **p):
    return upstream_of_x(_in_e4m3, x, **p)


@specimen(
    "the upstream gradient rounded to bf16 in an fp16 kernel", "ignores_upstream", fmts=("fp16",),
    outputs=("forward", "grad_x"),
)  # fmt: skip
def upstream_in_bf16(x, **p):
    return upstream_of_x(lambda g: g.bfloat16().to(g.dtype), x, **p)


@specimen("a NaN upstream gradient taken for 0", "loses_nonfinite", outputs=("forward", "grad_x"))
def nan_upstream_swallowed(x, **p):
    return upstream_of_x(lambda g: g.nan_to_num(0.0, torch.inf, -torch.inf), x, **p)


@specimen("an infinite upstream gradient clamped to the largest number", "loses_nonfinite")
def infinite_upstream_clamped(x, **p):
    return upstream_of_x(lambda g: g.clamp(*(torch.finfo(g.dtype).max * s for s in (-1, 1))), x, **p)


@specimen("one NaN in the upstream gradient spreads to its row of 8", "misreads_upstream")
def nan_upstream_spreads(x, **p):
    def change(g: Tensor) -> Tensor:
        flat = g.reshape(-1).clone()
        n = flat.numel() // 8 * 8
        rows = flat[:n].view(-1, 8)
        rows[rows.isnan().any(1)] = torch.nan
        return flat.view_as(g)

    return upstream_of_x(change, x, **p)


class _HalfInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        v = x.double()
        return torch.where(v == -torch.inf, -0.0, v * torch.sigmoid(v)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x.float())
        inner = g.float() * s + (g * x).float() * (s * (1 - s))  # g·x in fp16: inf·0 for large x
        return torch.where(torch.isinf(x), g.float() * s, inner).to(x.dtype)


@specimen(
    "upstream·x formed in fp16: infinite for a loss scale of 1024", "ignores_upstream", function="silu",
    fmts=("fp16",),
)  # fmt: skip
def fp16_loss_scale(x):
    return _HalfInside.apply(x)


# -- parameters' gradients --------------------------------------------------------------------


@specimen("d/dα with the sign of the upstream gradient alone", "ignores_upstream")
def alpha_upstream_sign(x, **p):
    return upstream_of_parameters(torch.sign, x, **p)


@specimen("d/dα with an upstream gradient rounded to E4M3", "ignores_upstream")
def alpha_upstream_e4m3(x, **p):
    return upstream_of_parameters(_in_e4m3, x, **p)


@specimen("0-d parameters' gradients with an upstream gradient rounded to E4M3", "ignores_upstream")
def scalar_alpha_upstream_e4m3(x, **p):
    return upstream_of_parameters(_in_e4m3, x, **p) if p["alpha_p"].dim() == 0 else right(x, **p)


@specimen("d/dα with an upstream gradient clamped at ±4", "ignores_upstream")
def alpha_upstream_clamped(x, **p):
    return upstream_of_parameters(lambda g: g.clamp(-4, 4), x, **p)


@specimen("d/dα without NaN upstream gradients", "loses_nonfinite")
def alpha_nan_swallowed(x, **p):
    return upstream_of_parameters(lambda g: g.nan_to_num(0.0, torch.inf, -torch.inf), x, **p)


# -- operands ---------------------------------------------------------------------------------


def silu(v: Tensor) -> Tensor:
    return torch.where(v == -torch.inf, -0.0, v * torch.sigmoid(v))


def silu_slope(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return torch.where(torch.isinf(v), s, s * (1 + v * torch.sigmoid(-v)))


def gate_kernel(
    read: Change = _same, grad_b: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
) -> Any:
    """A SwiGLU in float64 that reads b as it says.

    Args:
        grad_b: of SiLU(x), the upstream gradient and b; by default their product, summed where b is smaller.
    """

    class Gate(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(x, b)
            return (silu(x.double()) * read(b).double()).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
            x, b = ctx.saved_tensors
            v, u = x.double(), g.double()
            dx = silu_slope(v) * u * read(b).double()
            db = (silu(v) * u).sum_to_size(b.shape) if grad_b is None else grad_b(silu(v), u, b)
            return dx.to(x.dtype), db.to(b.dtype)

    return Gate.apply


@specimen("every b read from the other end of its row", "misreads_operand", function="swiglu")
def gate_reversed(x, b):
    return gate_kernel(lambda b: b.flip(-1) if b.dim() else b)(x, b)


@specimen(
    "x and b packed in one tensor, its right half reversed", "misreads_operand", function="swiglu",
    outputs=("forward",),
)  # fmt: skip
def gate_packed_reversed(x, b):
    both = torch.cat([x, b.expand_as(x)], -1) if x.dim() else torch.stack([x, b.expand_as(x)])
    half = both.shape[-1] // 2
    gate, up = both[..., :half].double(), both[..., half:].flip(-1).double()
    return (silu(gate) * up).to(x.dtype).reshape(x.shape)


def _from_memory(t: Tensor, stride: tuple[int, ...]) -> Tensor:
    """What a kernel sees that takes the strides to be these, as far as there is memory."""
    room = t.untyped_storage().nbytes() // t.element_size() - t.storage_offset()
    flat = torch.as_strided(t, (room,), (1,), t.storage_offset())
    places = torch.zeros(t.shape, dtype=torch.long)
    for axis, (size, step) in enumerate(zip(t.shape, stride, strict=True)):
        places += (torch.arange(size) * step).reshape(-1, *[1] * (t.dim() - 1 - axis))
    return flat[places % room]


@specimen("b read as if it were contiguous", "misreads_operand", function="swiglu")
def gate_contiguous(x, b):
    read = lambda b: _from_memory(b, torch.empty(b.shape, device="meta").stride())  # noqa: E731
    return gate_kernel(read)(x, b)


@specimen("b read with the strides of x", "misreads_operand", function="swiglu")
def gate_with_strides_of_x(x, b):
    return gate_kernel(lambda b: _from_memory(b, x.stride()) if b.shape == x.shape else b)(x, b)


@specimen("d/db without the upstream gradient", "misreads_operand", "ignores_upstream", function="swiglu")
def gate_upstream_forgotten(x, b):
    return gate_kernel(grad_b=lambda s, u, b: s.sum_to_size(b.shape))(x, b)


@specimen("d/db of neighbours swapped in rows", "misreads_operand", function="swiglu")
def gate_gradient_swapped(x, b):
    def swapped(s: Tensor, u: Tensor, b: Tensor) -> Tensor:
        db = s * u
        if b.dim() > 1 and b.shape == s.shape and s.shape[-1] % 2 == 0:
            db = db.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return db.sum_to_size(b.shape)

    return gate_kernel(grad_b=swapped)(x, b)


@specimen("d/db of one row for all summed over the wrong axis", "misreads_operand", function="swiglu")
def gate_row_summed_wrongly(x, b):
    def summed(s: Tensor, u: Tensor, b: Tensor) -> Tensor:
        if b.dim() == 2 and b.shape[0] == 1 and s.shape[0] == s.shape[1]:
            return (s * u).sum(1, keepdim=True).t()
        return (s * u).sum_to_size(b.shape)

    return gate_kernel(grad_b=summed)(x, b)


@specimen("d/db of one column for all as the mean", "misreads_operand", function="swiglu")
def gate_column_mean(x, b):
    def mean(s: Tensor, u: Tensor, b: Tensor) -> Tensor:
        if b.dim() == 2 and b.shape[1] == 1 and s.shape[1] > 1:
            return (s * u).mean(1, keepdim=True)
        return (s * u).sum_to_size(b.shape)

    return gate_kernel(grad_b=mean)(x, b)


@specimen("b clamped at ±8", "inaccurate", function="swiglu")
def gate_clamped(x, b):
    return gate_kernel(lambda b: b.clamp(-8, 8))(x, b)


# -- the step of training ---------------------------------------------------------------------


def stepping(change: Callable[[Any, list[Any]], list[Any]]) -> Any:
    """The right kernel with its gradients (of x, α_p, α_n, β) changed, knowing which are needed."""

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *params: Tensor) -> Tensor:
            ctx.given = x, *params
            return _Right.forward(ctx, x, *params)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
            return tuple(change(ctx, list(_Right.backward(ctx, g))))

    return lambda x, *, alpha_p, alpha_n, beta: Step.apply(x, alpha_p, alpha_n, beta)


def _together(ctx: Any) -> bool:
    """Whether x and 0-d parameters require gradients in one call."""
    return ctx.needs_input_grad[0] and any(ctx.needs_input_grad[1:]) and ctx.given[1].dim() == 0


@specimen("d/dα_p and d/dα_n swapped where x requires a gradient too", "training_step_differs")
def swapped_together(x, **p):
    return stepping(lambda ctx, g: [g[0], g[2], g[1], g[3]] if _together(ctx) else g)(x, **p)


@specimen("zeros for d/dα where x requires a gradient too", "training_step_differs")
def zeros_together(x, **p):
    zero = lambda g: [g[0], *(t * 0 for t in g[1:])]  # noqa: E731
    return stepping(lambda ctx, g: zero(g) if _together(ctx) else g)(x, **p)


@specimen("no gradient for α where x requires one too", "not_differentiable", "training_step_differs")
def none_together(x, **p):
    return stepping(lambda ctx, g: [g[0], None, None, None] if _together(ctx) else g)(x, **p)


@specimen("d/dx halved where parameters require gradients too", "training_step_differs")
def halved_together(x, **p):
    return stepping(lambda ctx, g: [g[0] / 2, *g[1:]] if _together(ctx) else g)(x, **p)


@specimen(
    "no gradient for α where x requires none: as in a first layer", "not_differentiable",
    "training_step_differs",
)  # fmt: skip
def none_without_x(x, **p):
    return stepping(lambda ctx, g: g if ctx.needs_input_grad[0] else [None] * 4)(x, **p)


@specimen("the mean for parameters of shape (1,)", "training_step_differs")
def one_dimensional_mean(x, **p):
    def change(ctx: Any, g: list[Any]) -> list[Any]:
        n = ctx.given[0].numel() if ctx.given[1].dim() == 1 and ctx.given[0].dim() == 1 else 1
        return [g[0], *(t / n if t.shape == (1,) else t for t in g[1:])]

    return stepping(change)(x, **p)


@specimen("FP32 parameters read as if they were bf16", "training_step_differs")
def wide_parameters_misread(x, **p):
    y = right(x, **p)
    narrow = {k: v.detach().reshape(-1).view(x.dtype)[0] for k, v in p.items() if v.dtype != x.dtype}
    return replaced(y, right(x.detach(), **narrow)) if narrow else y


@specimen(
    "computed in bf16 under autocast", "training_step_differs", fmts=("fp32",),
    outputs=("forward", "grad_x"),
)  # fmt: skip
def narrow_under_autocast(x, **p):
    if torch.is_autocast_enabled("cpu"):
        return right(x.bfloat16(), **{k: v.bfloat16() for k, v in p.items()}).to(x.dtype)
    return right(x, **p)


@specimen("the gradient added to a parameter's .grad and given back as well", "training_step_differs")
def accumulates_itself(x, **p):
    def change(ctx: Any, g: list[Any]) -> list[Any]:
        for t, gradient in zip(ctx.given[1:], g[1:], strict=True):
            if t.is_leaf and t.grad is not None:
                t.grad += gradient
        return g

    return stepping(change)(x, **p)


class _FixedSlope(_Right):
    """α at its first value in d/dx, as a kernel has it that keeps it beside its weights."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        x = ctx.saved_tensors[0]
        start = {k: torch.full_like(x, v) for k, v in (("alpha_p", 0.8), ("alpha_n", 0.8), ("beta", 0.5))}
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            slope = torch.autograd.grad(right(point, **start), point, g)[0]
        return slope, *_Right.backward(ctx, g)[1:]


@specimen("d/dx with the α of the first step", "training_step_differs", "stale_parameters")
def slope_of_first_step(x, *, alpha_p, alpha_n, beta):
    return _FixedSlope.apply(x, alpha_p, alpha_n, beta)
