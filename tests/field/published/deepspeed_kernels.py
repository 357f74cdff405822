"""DeepSpeed's Triton activations, each a TARGET."""

from __future__ import annotations

from adapter_rows import halves


def gelu(x):
    from deepspeed.ops.transformer.inference.triton.gelu import gelu as kernel

    return kernel(x.contiguous())


def swiglu(x, b):
    from deepspeed.ops.triton_ops.swiglu_triton import swiglu as kernel

    return kernel(x, b.expand(x.shape))


def swiglu_packed(x, b):
    from deepspeed.ops.triton_ops.swiglu_triton import swiglu_packed as kernel

    return kernel(halves(x, b)).reshape(x.shape)
