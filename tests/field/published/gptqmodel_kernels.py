"""Quantisers of GPTQModel: each gives codes, and the scales that codes are multiplied with."""


def fp8_pack(x):
    from gptqmodel.nn_modules.qlinear.w4a_triton import fp8_pack

    return fp8_pack(x)
