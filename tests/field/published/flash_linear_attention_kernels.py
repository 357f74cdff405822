"""Activations of flash-linear-attention (fla-core), each a TARGET."""

from __future__ import annotations

import math

WIDTH = 1024  # columns of a row, where the length allows: kernels are compiled for each width


def _rows(x):
    return x.reshape(-1, math.gcd(x.numel(), WIDTH))


def swish(x):
    from fla.modules.activations.ops import swish

    return swish(_rows(x)).reshape(x.shape)


def swiglu(x, b):
    from fla.modules.activations.ops import swiglu

    return swiglu(_rows(x), _rows(b.expand(x.shape))).reshape(x.shape)


def sigmoid(x):
    from fla.modules.activations.ops import sigmoid

    return sigmoid(_rows(x)).reshape(x.shape)


def logsigmoid(x):
    from fla.modules.activations.ops import logsigmoid

    return logsigmoid(_rows(x)).reshape(x.shape)


def relu2(x):
    """The activation of RWKV-7's channel mixing; its gradient is a part of a larger function there."""
    from fla.ops.rwkv7.channel_mixing import rwkv_relu_and_square_fwd

    return rwkv_relu_and_square_fwd(x, inplace=False)
