"""Activations of lightllm, each a TARGET. They have no gradients, and write over their input."""

from __future__ import annotations

from adapter_rows import halves


def _halves(x, b):
    return halves(x.detach(), b.detach())


def silu_and_mul(x, b):
    from lightllm.models.llama.triton_kernel.silu_and_mul import silu_and_mul_fwd

    return silu_and_mul_fwd(_halves(x, b)).reshape(x.shape)


def gelu_and_mul(x, b):
    from lightllm.models.gemma_2b.triton_kernel.gelu_and_mul import gelu_and_mul_fwd

    return gelu_and_mul_fwd(_halves(x, b)).reshape(x.shape)
