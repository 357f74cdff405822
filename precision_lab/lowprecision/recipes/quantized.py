"""A tensor as a recipe stores it: codes of a small format and the scales that give them their size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.formats.cast_loops import block_amax_cpu
from precision_lab.formats.casts import values_of
from precision_lab.lowprecision.recipes.scales import amax


def _beyond(fmt: FloatFormat) -> float:
    """What is greater rounds to more than the largest number.

    Half a step above that is a tie, which goes to the largest number of E4M3, whose significand is even, and
    beyond that of the others.
    """
    tie = fmt.overflow_threshold
    return math.nextafter(tie, 0.0) if fmt.max_significand % 2 else tie


BEYOND = {fmt: _beyond(fmt) for fmt in FORMATS.values() if fmt.rounds and fmt.bits <= 8}


@dataclass(frozen=True)
class Quantized:
    """Codes and scales of one tensor.

    Attributes:
        codes: uint8, the shape of the tensor; FP4 codes lie one to a byte.
        fmt: of the codes.
        decode: float32; what each block's values are multiplied by after the cast. 0-d for one scale per
            tensor, else shape (row blocks, column blocks).
        block: rows and columns of a block; None for one scale per tensor.
        scale_codes: the scales as stored where that is not float32 (E8M0, or E4M3 in NVFP4): uint8, the
            shape of decode.
        amax: float32, 0-d; the largest magnitude of the tensor before the cast.
    """

    codes: Tensor
    fmt: FloatFormat
    decode: Tensor
    block: tuple[int, int] | None
    amax: Tensor
    scale_codes: Tensor | None = None

    def values(self) -> Tensor:
        """float32 values of the codes, before they are scaled back."""
        return values_of(self.codes, self.fmt)

    def dequantize(self) -> Tensor:
        """float32, the shape of the tensor: each value times its block's scale, rounded once."""
        values = self.values()
        if self.block is None:
            return values * self.decode
        matrix = as_matrix(values)
        return (matrix * per_element(self.decode, self.block, matrix.shape)).reshape(values.shape)


def as_matrix(x: Tensor) -> Tensor:
    """Shape (rows, last dimension): all dimensions but the last as one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def per_element(scales: Tensor, block: tuple[int, int], shape: torch.Size) -> Tensor:
    """Scales of blocks, shape (row blocks, column blocks), repeated to a matrix's shape."""
    rows, columns = shape
    for dim, size in enumerate(block):
        if size > 1:
            scales = scales.repeat_interleave(size, dim)
    return scales[:rows, :columns]


def block_amax(matrix: Tensor, block: tuple[int, int]) -> Tensor:
    """Largest magnitude of each block, NaN left out; blocks at the edges may be smaller.

    Args:
        matrix: shape (rows, columns).

    Returns:
        float32, shape (⌈rows/block rows⌉, ⌈columns/block columns⌉).
    """
    if matrix.device.type == "cpu":
        return block_amax_cpu(matrix.float().contiguous(), block)
    return _block_amax(matrix, block)


def _block_amax(matrix: Tensor, block: tuple[int, int]) -> Tensor:
    rows, columns = matrix.shape
    high, wide = min(block[0], max(rows, 1)), min(block[1], max(columns, 1))
    down, right = -rows % high, -columns % wide
    if down or right:
        matrix = torch.nn.functional.pad(matrix, (0, right, 0, down))
    tiles = matrix.reshape(matrix.shape[0] // high, high, matrix.shape[1] // wide, wide)
    return amax(tiles, (1, 3))
