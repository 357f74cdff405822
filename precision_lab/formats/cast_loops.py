"""Casts on a CPU in one pass over memory, and storing with scaling back in one: most of the time goes here.

The values are those of `Recipe.quantize(…).dequantize()`, which tests hold them to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.numeric.jit import entry

_FP32 = FORMATS["fp32"]


@entry
def _block_amax(x: Any, high: int, wide: int, out: Any) -> None:
    rows, columns = x.shape
    for i in range(rows):
        found = out[i // high]
        if wide == 1:
            for j in range(columns):
                magnitude = abs(x[i, j])
                found[j] = magnitude if magnitude > found[j] else found[j]
            continue
        for k in range(found.size):
            largest = found[k]
            for j in range(k * wide, min((k + 1) * wide, columns)):
                magnitude = abs(x[i, j])
                # A comparison with NaN is false: NaN is left out.
                largest = magnitude if magnitude > largest else largest
            found[k] = largest


@entry
def _round_trip(
    x: Any, multiplier: Any, decode: Any, high: int, wide: int, dropped: Any, smallest: Any, largest: Any,
    anchor: Any, line: Any, bits: Any, out: Any,
) -> None:  # fmt: skip
    rows, columns = x.shape
    one = np.uint32(1)
    half = np.uint32((one << np.uint32(dropped - one)) - one)
    keep = np.uint32(~np.uint32((one << dropped) - one))
    for i in range(rows):
        before, after = multiplier[i // high], decode[i // high]
        if wide == 1:
            for j in range(columns):
                line[j] = x[i, j] * before[j]
        else:
            for k in range(before.size):
                scale = before[k]
                for j in range(k * wide, min((k + 1) * wide, columns)):
                    line[j] = x[i, j] * scale
        # As `casts.fp8_codes`: ties to even by integers, below emin by an addition.
        for j in range(columns):
            line[columns + j] = (abs(line[j]) + anchor) - anchor
        for j in range(columns):
            magnitude = np.uint32(bits[j] & np.uint32(0x7FFF_FFFF))
            rounded = np.uint32(magnitude + np.uint32(np.uint32(magnitude >> dropped) & one))
            rounded = np.uint32(np.uint32(rounded + half) & keep)
            rounded = bits[columns + j] if magnitude < smallest else rounded
            rounded = rounded if rounded < largest else largest
            rounded = magnitude if magnitude > np.uint32(0x7F80_0000) else rounded
            bits[j] = np.uint32(rounded | np.uint32(bits[j] & np.uint32(0x8000_0000)))
        if wide == 1:
            for j in range(columns):
                out[i, j] = line[j] * after[j]
        else:
            for k in range(after.size):
                scale = after[k]
                for j in range(k * wide, min((k + 1) * wide, columns)):
                    out[i, j] = line[j] * scale


@entry
def _fp8(
    x: Any, bits: Any, dropped: Any, base: Any, smallest: Any, anchor: Any, anchor_bits: Any, largest: Any,
    overflow: Any, line: Any, line_bits: Any, out: Any,
) -> None:  # fmt: skip
    one, infinity = np.uint32(1), np.uint32(0x7F80_0000)
    for start in range(0, x.size, line.size):
        count = min(line.size, x.size - start)
        for i in range(count):
            line[i] = abs(x[start + i]) + anchor
        for i in range(count):
            b = bits[start + i]
            magnitude = np.uint32(b & np.uint32(0x7FFF_FFFF))
            rounded = np.uint32(magnitude + np.uint32(np.uint32(magnitude >> dropped) & one))
            rounded = np.uint32(np.uint32(rounded + base) >> dropped)
            code = rounded if magnitude >= smallest else np.uint32(line_bits[i] - anchor_bits)
            code = code if code <= largest else overflow
            code = np.uint32(code | np.uint32(np.uint32(b >> np.uint32(24)) & np.uint32(0x80)))
            out[start + i] = np.uint8(code if magnitude <= infinity else np.uint32(0x7F))


def fp8_codes_cpu(x: NDArray[np.float32], fmt: FloatFormat, saturating: bool) -> NDArray[np.uint8]:
    """`casts.fp8_codes` on the CPU."""
    flat, out = x.reshape(-1), np.empty(x.shape, np.uint8)
    dropped = 23 - fmt.fraction_bits
    anchor = np.float32(fmt.min_subnormal * 2.0**23)
    # As there: half of what is dropped, less one, and the exponent's bias changed.
    base = (1 << (dropped - 1)) - 1 - ((_FP32.bias - fmt.bias) << _FP32.fraction_bits)
    line = np.empty(4096, np.float32)
    largest, normal = fmt.max_code, (_FP32.bias + fmt.emin) << _FP32.fraction_bits
    _fp8(
        flat, flat.view(np.uint32), np.uint32(dropped), np.uint32(base & 0xFFFF_FFFF),
        np.uint32(normal), anchor, anchor.view(np.uint32), np.uint32(largest),
        np.uint32(largest if saturating else largest + 1), line, line.view(np.uint32), out.reshape(-1),
    )  # fmt: skip
    return out


@entry
def _e2m1(x: Any, sign: Any, random: Any, out: Any) -> None:
    for i in range(x.size):
        m = abs(x[i])
        code = (
            (m > np.float32(0.25)) + (m >= np.float32(0.75)) + (m > np.float32(1.25))
            + (m >= np.float32(1.75)) + (m > np.float32(2.5)) + (m >= np.float32(3.5)) + (m > np.float32(5.0))
        )  # fmt: skip
        if random.size > 0:
            wide = np.float64(m)
            step = 0.5 if wide < 2.0 else (1.0 if wide < 4.0 else 2.0)
            m64 = wide + random[i] / 256.0 * step
            code = (
                (m64 >= 0.5) + (m64 >= 1.0) + (m64 >= 1.5) + (m64 >= 2.0) + (m64 >= 3.0) + (m64 >= 4.0)
                + (m64 >= 6.0)
            )  # fmt: skip
        out[i] = 7 if m != m else code | ((sign[i] >> 31) << 3)


def e2m1_codes_cpu(x: NDArray[np.float32], random: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """`casts.e2m1_codes`, and with random bytes `casts.e2m1_codes_stochastic`, on the CPU."""
    out = np.empty(x.shape, np.uint8)
    flat = x.reshape(-1)
    random = np.empty(0, np.uint8) if random is None else random.reshape(-1)
    _e2m1(flat, flat.view(np.uint32), random, out.reshape(-1))
    return out


@entry
def _count(
    bits: Any, shift: Any, stride: int, patterns: Any, coarse: Any, amax: Any, odd: Any, line: Any
) -> None:
    rows, columns = bits.shape
    infinity, low, one = np.uint32(0x7F80_0000), np.uint32(0x7FFF), np.uint32(1)
    for i in range(rows):
        largest = np.uint32(0)
        for j in range(columns):
            magnitude = np.uint32(np.uint32(np.uint32(bits[i, j]) << shift) & np.uint32(0x7FFF_FFFF))
            largest = max(largest, magnitude)
            kept = magnitude if magnitude < infinity else np.uint32(0)
            amax[j] = max(amax[j], kept)
        if largest >= infinity:
            for j in range(columns):
                magnitude = np.uint32(np.uint32(np.uint32(bits[i, j]) << shift) & np.uint32(0x7FFF_FFFF))
                odd[0] += magnitude == infinity
                odd[1] += magnitude > infinity
        if i % stride == 0:
            for j in range(columns):  # to bf16, nearest even; a NaN stays one
                b = np.uint32(np.uint32(bits[i, j]) << shift)
                tie = np.uint32(np.uint32(b >> np.uint32(16)) & one)
                rounded = np.uint32(np.uint32(b + low) + tie)
                nan = np.uint32(b & np.uint32(0x7FFF_FFFF)) > infinity
                line[j] = np.uint32(np.uint32(b | np.uint32(0x40_0000)) if nan else rounded) >> np.uint32(16)
            for j in range(columns):
                patterns[line[j]] += one
            for j in range(columns):
                coarse[line[j] >> np.uint32(6), j] += one


def count_cpu(
    rows: Tensor,
    stride: int,
    patterns: NDArray[np.uint64],
    coarse: NDArray[np.uint32],
    amax: NDArray[np.float32],
    odd: NDArray[np.int64],
) -> None:
    """Adds a matrix to counts, in one pass.

    Args:
        rows: floating point, shape (rows, channels), on the CPU.
        stride: every so many rows one is counted, from the first on; all are looked at.
        patterns: uint64, shape (65536,); of its numbers as bf16.
        coarse: uint32, shape (1024, channels or more); of their first 10 bits.
        amax: float32, shape (channels,); largest finite magnitudes.
        odd: int64; how many numbers are infinite, and how many NaN.
    """
    if rows.dtype == torch.bfloat16:
        bits, shift = rows.contiguous().view(torch.int16).numpy().view(np.uint16), 16
    else:
        bits, shift = rows.float().contiguous().numpy().view(np.uint32), 0
    line = np.empty(rows.shape[1], np.uint32)
    _count(bits, np.uint32(shift), stride, patterns, coarse, amax.view(np.uint32), odd, line)


def block_amax_cpu(matrix: Tensor, block: tuple[int, int]) -> Tensor:
    """`quantized.block_amax` of a float32 matrix on the CPU."""
    rows, columns = matrix.shape
    out = np.zeros((-(-rows // block[0]), -(-columns // block[1])), np.float32)
    _block_amax(matrix.numpy(), block[0], block[1], out)
    return torch.from_numpy(out)


def round_trip_cpu(
    matrix: Tensor, fmt: FloatFormat, multiplier: Tensor, decode: Tensor, block: tuple[int, int] | None
) -> Tensor:
    """Every element times its block's multiplier, cast with saturation, times its block's decode.

    Args:
        matrix: float32, shape (rows, columns), on the CPU.
        fmt: "e4m3" or "e5m2".
        multiplier, decode: float32, one for each block; 0-d when block is None.
        block: rows and columns of a block.

    Returns:
        float32, the shape of matrix.
    """
    rows, columns = matrix.shape
    high, wide = (max(rows, 1), max(columns, 1)) if block is None else block
    largest, smallest = (np.float32(v).view(np.uint32) for v in (fmt.max_finite, 2.0**fmt.emin))
    out, line = np.empty((rows, columns), np.float32), np.empty(2 * columns, np.float32)
    scales = (scale.reshape(-1, 1) if scale.ndim == 0 else scale for scale in (multiplier, decode))
    up, down = (scale.contiguous().numpy() for scale in scales)
    _round_trip(
        matrix.numpy(), up, down, high, wide, np.uint32(23 - fmt.fraction_bits), smallest, largest,
        np.float32(fmt.min_subnormal * 2.0**23), line, line.view(np.uint32), out,
    )  # fmt: skip
    return torch.from_numpy(out)


__all__ = ["block_amax_cpu", "count_cpu", "e2m1_codes_cpu", "fp8_codes_cpu", "round_trip_cpu"]
