"""Quantisers of torchao: each gives codes, and the scales that codes are multiplied with."""


def act_quant(x):
    from torchao.kernel.blockwise_quantization import fp8_blockwise_act_quant

    return fp8_blockwise_act_quant(x)


def act_quant_e5m2(x):
    import torch
    from torchao.kernel.blockwise_quantization import fp8_blockwise_act_quant

    return fp8_blockwise_act_quant(x, dtype=torch.float8_e5m2)


def weight_quant(x):
    from torchao.kernel.blockwise_quantization import fp8_blockwise_weight_quant

    return fp8_blockwise_weight_quant(x)


def training_act_quant_lhs(x):
    from torchao.prototype.blockwise_fp8_training.kernels import triton_fp8_blockwise_act_quant_lhs

    return triton_fp8_blockwise_act_quant_lhs(x)


def training_act_quant_rhs(x):
    from torchao.prototype.blockwise_fp8_training.kernels import triton_fp8_blockwise_act_quant_rhs

    return triton_fp8_blockwise_act_quant_rhs(x)


def training_act_quant_transposed_lhs(x):
    from torchao.prototype.blockwise_fp8_training.kernels import triton_fp8_blockwise_act_quant_transposed_lhs

    codes, scales = triton_fp8_blockwise_act_quant_transposed_lhs(x)
    return codes.t(), scales.t()


def training_weight_quant_rhs(x):
    from torchao.prototype.blockwise_fp8_training.kernels import triton_fp8_blockwise_weight_quant_rhs

    return triton_fp8_blockwise_weight_quant_rhs(x)


def training_weight_quant_transposed_rhs(x):
    from torchao.prototype.blockwise_fp8_training.kernels import (
        triton_fp8_blockwise_weight_quant_transposed_rhs,
    )

    codes, scales = triton_fp8_blockwise_weight_quant_transposed_rhs(x)
    return codes.t(), scales.t()


def mxfp8_dim0(x):
    """For compute capability 10.0 and later."""
    from torchao.prototype.mx_formats.kernels import triton_to_mxfp8_dim0

    return triton_to_mxfp8_dim0(x)


def mxfp8_dim0_floor(x):
    from torchao.prototype.mx_formats.kernels import triton_to_mxfp8_dim0

    return triton_to_mxfp8_dim0(x, scaling_mode="floor")


def mxfp8_dim1(x):
    """For compute capability 10.0 and later."""
    from torchao.prototype.mx_formats.kernels import triton_to_mxfp8_dim1

    codes, scales = triton_to_mxfp8_dim1(x)
    return codes, scales.t()


def mxfp8_dim1_floor(x):
    from torchao.prototype.mx_formats.kernels import triton_to_mxfp8_dim1

    codes, scales = triton_to_mxfp8_dim1(x, scaling_mode="floor")
    return codes, scales.t()
