"""LMDeploy's Triton activations and quantisers. Its activations have no backward kernels."""

from __future__ import annotations

import torch
from adapter_rows import halves


def silu_and_mul(x, b):
    from lmdeploy.pytorch.kernels.cuda.activation import silu_and_mul as kernel

    return kernel(halves(x, b)).reshape(x.shape)


def silu_and_mul_moe_ep(x, b):
    """One expert, every row of which is asked for."""
    from lmdeploy.pytorch.kernels.cuda.activation import silu_and_mul_moe_ep as kernel

    given = halves(x, b)
    rows = torch.full((1,), given.shape[0], dtype=torch.int32, device=x.device)
    return kernel(given[None], rows).reshape(x.shape)


# -- quantisers --------------------------------------------------------------------------------


def quant_fp8(x):
    from lmdeploy.pytorch.kernels.cuda.blocked_gemm_fp8 import quant_fp8 as kernel

    return kernel(x, 128)


def quant_fp8_ue8m0(x):
    from lmdeploy.pytorch.kernels.cuda.blocked_gemm_fp8 import quant_fp8 as kernel

    return kernel(x, 128, scale_fmt="ue8m0")


def quant_fp8_e5m2(x):
    from lmdeploy.pytorch.kernels.cuda.blocked_gemm_fp8 import quant_fp8 as kernel

    return kernel(x, 128, dtype=torch.float8_e5m2)


def per_token_quant_fp8(x):
    from lmdeploy.pytorch.kernels.cuda.w8a8_triton_kernels import per_token_quant_int8 as kernel

    return kernel(x, 1e-7, quant_dtype=torch.float8_e4m3fn)


def per_token_quant_int8(x):
    from lmdeploy.pytorch.kernels.cuda.w8a8_triton_kernels import per_token_quant_int8 as kernel

    return kernel(x, 1e-7)
