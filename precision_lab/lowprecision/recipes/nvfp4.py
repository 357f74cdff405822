"""NVFP4's parts: two levels of scales, the random Hadamard transform, stochastic rounding.

Source: the rules of Transformer Engine 2.20 (`core_nvfp4.cuh` and its reference quantiser), restated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.formats import E2M1, E4M3
from precision_lab.formats.casts import (
    e2m1_codes,
    e2m1_codes_stochastic,
    fp8_codes,
    values_of,
)
from precision_lab.lowprecision.recipes.quantized import Quantized, as_matrix, block_amax, per_element
from precision_lab.lowprecision.recipes.scales import FP32_MAX, amax, quotient

GROUP = 16  # elements that share a scale, and that the Hadamard transform mixes
_ELEMENT_MAX = E2M1.max_finite  # 6
_PRODUCT_MAX = E4M3.max_finite * _ELEMENT_MAX  # 2688 = 448 · 6
_SIXTH = float(np.float32(1) / np.float32(_ELEMENT_MAX))
_INVERSE = float(np.float32(1) / np.float32(_PRODUCT_MAX))
SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)


def encode_scale(a: Tensor) -> Tensor:
    """min(2688/A, FP32 maximum) of a tensor's amax A; 1 where A is 0 or infinite."""
    scale = quotient(_PRODUCT_MAX, a).clamp(max=FP32_MAX)
    return torch.where((a == 0) | (scale == 0), torch.ones_like(a), scale)


def hadamard(x: Tensor) -> Tensor:
    """Groups of 16 along the last dimension times diag(s)·H16/4, rounded to BF16.

    The sixteen products are summed as if exactly, then rounded to FP32, as an ideal FP32 accumulator
    does, and then to BF16; hardware, which adds in an order of its own, may differ by a BF16 ulp where
    the magnitudes in one group span more than 2^13.

    Args:
        x: shape (…, n), n a multiple of 16; BF16 values.

    Returns:
        bfloat16, the shape of x.

    Raises:
        ValueError: n is no multiple of 16.
    """
    if x.shape[-1] % GROUP:
        raise UsageError(
            f"x.shape={tuple(x.shape)}: the Hadamard transform takes groups of {GROUP} numbers of a row"
        )
    groups = x.double().reshape(*x.shape[:-1], x.shape[-1] // GROUP, GROUP)
    return (groups @ _matrix().to(x.device)).float().bfloat16().reshape(x.shape)


@lru_cache
def _matrix() -> Tensor:
    h = torch.ones(1, 1, dtype=torch.float64)
    while h.shape[0] < GROUP:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return torch.tensor(SIGNS, dtype=torch.float64)[:, None] * h / 4


def quantize_nvfp4(
    x: Tensor,
    block: tuple[int, int],
    *,
    unrounded_amax: Tensor | None = None,
    generator: torch.Generator | None = None,
    stochastic: bool = False,
) -> Quantized:
    """E2M1 elements, E4M3 block scales under one FP32 scale.

    Args:
        x: shape (…, n).
        block: rows and columns that share a scale.
        unrounded_amax: the amax of x before it was rounded to its dtype, where that is what counts.
        generator: source of the random bits of stochastic rounding.

    Raises:
        ValueError: stochastic without a generator.
    """
    matrix = as_matrix(x).float()
    a = amax(matrix) if unrounded_amax is None else unrounded_amax.float()
    encode = encode_scale(a)
    scale_codes = fp8_codes(block_amax(matrix, block) * (encode * _SIXTH), E4M3)
    d = values_of(scale_codes, E4M3)
    multiplier = (1.0 / (d * (1.0 / encode))).clamp(max=FP32_MAX)
    scaled = matrix * per_element(multiplier, block, matrix.shape)
    if stochastic:
        if generator is None:
            raise UsageError("generator=None: stochastic rounding needs an explicit torch.Generator")
        random = torch.randint(
            0, 256, scaled.shape, generator=generator, dtype=torch.uint8, device=generator.device
        ).to(scaled.device)
        codes = e2m1_codes_stochastic(scaled, random)
    else:
        codes = e2m1_codes(scaled)
    return Quantized(codes.reshape(x.shape), E2M1, d * a * _INVERSE, block, a, scale_codes)
