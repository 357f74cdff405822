"""Trinix's Triton activations, each a TARGET.

Its gated units take one tensor whose rows hold the linear half and then the gate: `b` and `x`.
"""

from __future__ import annotations

from adapter_rows import halves


def _gated(function, x, b):
    return function(halves(b.expand(x.shape), x)).reshape(x.shape)


def mish(x):
    from trinix.kernels.mish_kernel import TritonMishKernel

    return TritonMishKernel.apply(x)


def relu2(x):
    from trinix.kernels.squared_relu_kernel import TritonSquaredReLUKernel

    return TritonSquaredReLUKernel.apply(x)


def quick_gelu(x):
    from trinix.kernels.quickgelu_kernel import TritonQuickGELUKernel

    return TritonQuickGELUKernel.apply(x)


def swiglu(x, b):
    from trinix.kernels.swigelu_kernel import TritonSwiGLUKernel

    return _gated(TritonSwiGLUKernel.apply, x, b)


def geglu_tanh(x, b):
    from trinix.kernels.geglu_kernel import TritonGeGLUKernel

    return _gated(TritonGeGLUKernel.apply, x, b)


def reglu(x, b):
    from trinix.kernels.reglu_kernel import TritonReGLUKernel

    return _gated(TritonReGLUKernel.apply, x, b)
