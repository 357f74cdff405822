"""Activations and quantisers of sglang; none of them has gradients."""

from __future__ import annotations

import torch
from adapter_rows import halves


def gelu_and_mul(x, b):
    from sglang.kernels.ops.activation.gelu_and_mul_triton import gelu_and_mul_triton

    return gelu_and_mul_triton(halves(x, b))[0].reshape(x.shape)


def silu_mul_bitexact(x, b):
    from sglang.kernels.ops.diffusion.activation.silu_mul_bitexact import fused_silu_mul_bitexact

    return fused_silu_mul_bitexact(x.contiguous(), b.expand(x.shape).contiguous())


def swiglu_oai_split(x, b):
    """With alpha 1, beta 0 and no limit it is SiLU(x)·b."""
    from sglang.kernels.ops.activation.minimax_m3_swiglu import swiglu_oai_split

    return swiglu_oai_split(halves(x, b), 1.0, 0.0, None).reshape(x.shape)


def per_token_group_quant(x):
    from sglang.kernels.ops.quantization.fp8_kernel import _per_token_group_quant_8bit_raw

    return _per_token_group_quant_8bit_raw(x, 128, dtype=torch.float8_e4m3fn)


def act_quant(x):
    from sglang.kernels.ops.quantization.act_quant_triton import act_quant

    return act_quant(x)


def act_quant_ue8m0(x):
    from sglang.kernels.ops.quantization.act_quant_triton import act_quant

    return act_quant(x, scale_fmt="ue8m0")


def to_mxfp8(x):
    from sglang.kernels.ops.quantization.mxfp8_quant import to_mxfp8

    return tuple(to_mxfp8(x))


def fp8_rowwise(x):
    from sglang.kernels.ops.diffusion.quantization.fp8_rowwise_triton import fp8_rowwise

    return fp8_rowwise(x)


def per_token_quant_int8(x):
    from sglang.kernels.ops.quantization.int8_kernel import per_token_quant_int8

    return per_token_quant_int8(x)
