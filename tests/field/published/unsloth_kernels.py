"""Unsloth's Triton activations, each a TARGET, and its quantiser.

Its gated units have functions for forward and backward and no autograd.Function of their own outside
its fused MLP. The backward ones write (h, d/d(up), d/d(gate)) over the upstream gradient, the gate and
the up projection.
"""

from __future__ import annotations

import torch
from adapter_rows import halves, rows


def _gated(forward, backward, x, b):
    class Gated(torch.autograd.Function):
        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return forward(gate[None], up[None])[0]

        @staticmethod
        def backward(ctx, upstream):
            gate, up = (saved.clone() for saved in ctx.saved_tensors)
            _, grad_up, grad_gate = backward(upstream.clone(memory_format=torch.contiguous_format), gate, up)
            return grad_gate, grad_up

    gate, up = (rows(given).contiguous() for given in (x, b.expand(x.shape)))
    return Gated.apply(gate, up).reshape(x.shape)


def swiglu(x, b):
    from unsloth.kernels.swiglu import swiglu_DWf_DW_dfg_kernel, swiglu_fg_kernel

    return _gated(swiglu_fg_kernel, swiglu_DWf_DW_dfg_kernel, x, b)


def geglu_exact(x, b):
    from unsloth.kernels.geglu import geglu_exact_backward_kernel, geglu_exact_forward_kernel

    return _gated(geglu_exact_forward_kernel, geglu_exact_backward_kernel, x, b)


def geglu_approx(x, b):
    from unsloth.kernels.geglu import geglu_approx_backward_kernel, geglu_approx_forward_kernel

    return _gated(geglu_approx_forward_kernel, geglu_approx_backward_kernel, x, b)


def moe_fused_swiglu(x, b):
    import unsloth  # noqa: F401  unsloth_zoo refuses to be imported without it
    from unsloth_zoo.temporary_patches.moe_fused_swiglu import moe_fused_swiglu as kernel

    return kernel(halves(x, b)).reshape(x.shape)


# -- quantisers --------------------------------------------------------------------------------


def act_quant(x):
    from unsloth.kernels.fp8 import act_quant as kernel

    return kernel(x)
