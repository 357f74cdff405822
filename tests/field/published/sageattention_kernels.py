"""Quantisers of SageAttention: each gives codes, and the scales that codes are multiplied with."""


def per_block_int8(x):
    """Of the keys, a block of 64 rows and all columns, which are 64 or 128."""
    from sageattention.quant_per_block import per_block_int8

    rows, columns = x.shape
    x = x.reshape(1, 1, rows, columns)
    _, _, codes, scales = per_block_int8(x, x)
    return codes.reshape(rows, columns), scales.reshape(-1, 1)
