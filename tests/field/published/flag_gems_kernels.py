"""flag-gems 5.0.2: its activations, gated units and quantisers, each a TARGET or a quantiser.

The package asks `nvidia-smi` which vendor's GPU there is, or takes `GEMS_VENDOR`: an emulated GPU has no
such program. It needs a Triton of at most 3.6: its generated kernels use block pointers, which 3.9 has not,
and its launcher hands 3.9 no constants at the second launch. Forward and backward kernels are host
functions of their own, which the package registers for ATen's operators; `_paired` makes one
differentiable function of two.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import torch

ROWS = 64  # the gated units take blocks of that many rows


def _gems():
    os.environ.setdefault("GEMS_VENDOR", "nvidia")
    import flag_gems

    return flag_gems


def _experimental(name: str):
    _gems()
    import importlib

    return importlib.import_module(f"flag_gems.experimental_ops.{name}")


class _Paired(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, *tensors):
        y = forward(*tensors)
        ctx.save_for_backward(*tensors, y)
        ctx.gradients = backward
        return y

    @staticmethod
    def backward(ctx, grad):
        *tensors, y = ctx.saved_tensors
        found = ctx.gradients(grad, *tensors, y)
        return None, None, *(found if isinstance(found, tuple) else (found,))


def _paired(forward: Callable, backward: Callable, *tensors: torch.Tensor) -> torch.Tensor:
    """`forward(*tensors)`, whose gradients are what `backward(grad, *tensors, result)` gives."""
    return _Paired.apply(forward, backward, *tensors)


# -- of one input -------------------------------------------------------------------------------


def silu(x):
    gems = _gems()
    return _paired(gems.silu, lambda grad, x, y: gems.silu_backward(grad, x), x)


def gelu(x):
    gems = _gems()
    return _paired(gems.gelu, lambda grad, x, y: gems.gelu_backward(grad, x), x)


def gelu_tanh(x):
    gems = _gems()
    return _paired(
        lambda x: gems.gelu(x, approximate="tanh"),
        lambda grad, x, y: gems.gelu_backward(grad, x, approximate="tanh"),
        x,
    )


def elu(x):
    gems = _gems()
    return _paired(gems.elu, lambda grad, x, y: gems.elu_backward(grad, 1.0, 1.0, 1.0, False, x), x)


def elu_of_result(x):
    """Its backward as in-place ELU takes it: of the result."""
    gems = _gems()
    return _paired(gems.elu, lambda grad, x, y: gems.elu_backward(grad, 1.0, 1.0, 1.0, True, y), x)


def celu(x):
    return _gems().celu(x)


def relu(x):
    gems = _gems()
    return _paired(gems.relu, lambda grad, x, y: gems.threshold_backward(grad, x, 0), x)


def prelu(x, alpha):
    return _gems().prelu(x, alpha)


def sigmoid(x):
    gems = _gems()
    return _paired(gems.sigmoid, lambda grad, x, y: gems.sigmoid_backward(grad, y), x)


def tanh(x):
    gems = _gems()
    return _paired(gems.tanh, lambda grad, x, y: gems.tanh_backward(grad, y), x)


def logsigmoid(x):
    return _gems().log_sigmoid(x)


def softplus(x):
    return _gems().softplus(x)


def selu(x):
    return _gems().selu(x)


def selu_in_place(x):
    return _gems().selu_(x.clone())


# -- the folder of experimental operators, which no dispatch table names ---------------------------


def experimental_silu(x):
    return _experimental("silu").silu(x)


def experimental_gelu(x):
    return _experimental("gelu_").gelu_(x.clone())


def experimental_gelu_tanh(x):
    return _experimental("gelu_").gelu_(x.clone(), approximate="tanh")


def experimental_elu(x):
    return _experimental("elu").elu(x)


def experimental_celu(x):
    return _experimental("celu").celu(x)


def experimental_relu(x):
    return _experimental("relu").relu(x)


def experimental_sigmoid(x):
    return _experimental("sigmoid").sigmoid(x)


def experimental_softplus(x):
    return _experimental("softplus").softplus(x)


# -- gated units ----------------------------------------------------------------------------------


def silu_and_mul(x, b):
    return _gems().silu_and_mul(x, b)


def gelu_and_mul(x, b):
    return _gems().gelu_and_mul(x, b)


def gelu_tanh_and_mul(x, b):
    return _gems().gelu_and_mul(x, b, "tanh")


def _side_by_side(forward: Callable, backward: Callable, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of rows, x in the first half of each and b, which may be one number, in the second."""
    rows = math.gcd(x.numel(), ROWS)
    both = torch.cat((x.reshape(rows, -1), b.expand(x.shape).reshape(rows, -1)), dim=-1)
    return _paired(forward, lambda grad, both, y: backward(grad, both), both).reshape(x.shape)


def swiglu(x, b):
    gems = _gems()
    return _side_by_side(gems.swiglu, gems.dswiglu, x, b)


def geglu(x, b):
    gems = _gems()
    return _side_by_side(gems.geglu, gems.dgeglu, x, b)


def reglu(x, b):
    gems = _gems()
    return _side_by_side(gems.reglu, gems.dreglu, x, b)


# -- quantisers: codes and scales -----------------------------------------------------------------


def act_quant(x):
    _gems()
    from flag_gems.ops.act_quant import act_quant_triton

    return act_quant_triton(x)


def act_quant_ue8m0(x):
    _gems()
    from flag_gems.ops.act_quant import act_quant_triton

    return act_quant_triton(x, scale_fmt="ue8m0")


def per_token_group_quant_fp8(x):
    return _gems().per_token_group_quant_fp8(x, 128)


def per_token_group_quant_fp8_column_major(x):
    return _gems().per_token_group_quant_fp8(x, 128, column_major_scales=True)


def per_token_group_quant_fp8_ue8m0(x):
    return _gems().per_token_group_quant_fp8(x, 128, scale_ue8m0=True)
