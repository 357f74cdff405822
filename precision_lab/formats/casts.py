"""FP32 to FP8, FP4 and power-of-two scales by integer arithmetic: the same bits in every torch version.

torch's own casts are not used: what they make of overflow differs between its versions.
Sources: OCP 8-bit Floating Point Specification rev. 1.0 (2023) for E4M3 and E5M2, OCP
Microscaling Formats Specification rev. 1.0 (2023) for E2M1 and E8M0.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.formats import FloatFormat, get_format
from precision_lab.formats.cast_loops import e2m1_codes_cpu, fp8_codes_cpu

NAN = 0x7F  # the one NaN of E4M3, and the one a GPU's conversion gives in E5M2
_FP32_BIAS = 127
_MAGNITUDE = 0x7FFF_FFFF
_INFINITY = 0x7F80_0000

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by magnitude code; the sign is bit 3
E2M1_MAX = 6.0


def fp8_codes(x: Tensor, fmt: str, *, saturating: bool = True) -> Tensor:
    """Each value rounded to nearest, ties to even, as the format's bit pattern.

    Args:
        x: float32, any shape.
        fmt: "e4m3" or "e5m2".
        saturating: overflow and infinities give the largest finite number; otherwise overflow gives
            infinity in E5M2 and NaN in E4M3. NaN gives NaN (0x7f) either way.

    Returns:
        uint8, the shape of x.

    Raises:
        ValueError: fmt is not an FP8 format.
        TypeError: x is not float32.
    """
    target = get_format(fmt)
    if target.bits != 8:
        raise UsageError(f"fmt={fmt!r}: not an FP8 format; e4m3 or e5m2")
    if x.dtype != torch.float32:
        raise TypeError(f"x.dtype={x.dtype}: a cast to FP8 starts from float32")
    if x.device.type == "cpu":
        return torch.from_numpy(fp8_codes_cpu(x.contiguous().numpy(), fmt, saturating))
    return _fp8_codes(x, target, saturating)


def _fp8_codes(x: Tensor, target: FloatFormat, saturating: bool) -> Tensor:
    bits = x.contiguous().view(torch.int32)
    magnitude = bits & _MAGNITUDE
    dropped = 23 - target.fraction_bits
    # Half of what is dropped, less one, plus the bit that stays: ties go to even, and a carry out of the
    # significand raises the exponent as it should.
    rounded = magnitude + ((magnitude >> dropped) & 1)
    rounded += (1 << (dropped - 1)) - 1 - ((_FP32_BIAS + target.emin - 1) << 23)
    rounded >>= dropped
    # Below emin: in [2^k, 2^k + 2^emin), k = 23 + the exponent of the smallest subnormal, FP32 numbers are
    # the format's subnormals apart; the addition rounds, ties to even.
    anchor = target.min_subnormal * 2.0**23
    small = (magnitude.view(torch.float32) + anchor).view(torch.int32)
    small -= int(np.float32(anchor).view(np.int32))
    normal = magnitude >= (_FP32_BIAS + target.emin) << 23
    codes = torch.where(normal, rounded, small)
    largest = target.max_ordinal
    if saturating:
        codes.clamp_(max=largest)
    else:
        codes.masked_fill_(codes > largest, largest + 1)
    codes.masked_fill_(magnitude > _INFINITY, NAN)
    codes |= torch.where(magnitude > _INFINITY, 0, (bits >> 24) & 0x80)
    return codes.to(torch.uint8)


@lru_cache
def _table(fmt: str) -> Tensor:
    target = get_format(fmt)
    return torch.from_numpy(target.decode(target.all_bits()).astype(np.float32))


def fp8_values(codes: Tensor, fmt: str) -> Tensor:
    """The float32 value of each bit pattern; uint8 in, any shape."""
    return _table(fmt).to(codes.device)[codes.int()]


def e2m1_codes(x: Tensor) -> Tensor:
    """Each value rounded to E2M1, nearest, ties to even, saturating at ±6, its sign kept; NaN gives +6.

    Args:
        x: float32, any shape.

    Returns:
        uint8 in 0 … 15, the shape of x: one number per element, not packed.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(e2m1_codes_cpu(x.contiguous().numpy(), None))
    return _e2m1_codes(x)


def _e2m1_codes(x: Tensor) -> Tensor:
    magnitude = x.abs()
    # Midpoints between neighbours; a tie goes to the even code, that is below 0.25, 1.25, 2.5 and 5
    # included, and above 0.75, 1.75 and 3.5 included.
    codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for midpoint in (0.25, 1.25, 2.5, 5.0):
        codes += magnitude > midpoint
    for midpoint in (0.75, 1.75, 3.5):
        codes += magnitude >= midpoint
    return _signed(codes, x)


def e2m1_codes_stochastic(x: Tensor, random: Tensor) -> Tensor:
    """Each value raised by a random part of its step, then brought down to E2M1's grid; saturates at ±6.

    Args:
        x: float32, any shape.
        random: uint8, the shape of x, uniform: r adds r/256 of the distance between the neighbours.

    Returns:
        uint8 in 0 … 15, the shape of x.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(e2m1_codes_cpu(x.contiguous().numpy(), random.contiguous().numpy()))
    return _e2m1_codes_stochastic(x, random)


def _e2m1_codes_stochastic(x: Tensor, random: Tensor) -> Tensor:
    # In float64 the sum is exact, or too far below the next number of the grid for a rounding to reach it.
    magnitude = x.abs().double()
    step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0))
    raised = magnitude + random.double() / 256 * step
    codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for value in E2M1_VALUES[1:]:
        codes += raised >= value
    return _signed(codes, x)


def _signed(codes: Tensor, x: Tensor) -> Tensor:
    nan = x.isnan()
    codes.masked_fill_(nan, 7)
    return codes | (torch.signbit(x) & ~nan).to(torch.uint8) << 3


def e2m1_values(codes: Tensor) -> Tensor:
    """The float32 value of each E2M1 code; uint8 in, any shape."""
    return _e2m1_table().to(codes.device)[codes.int()]


@lru_cache
def _e2m1_table() -> Tensor:
    return torch.tensor([*E2M1_VALUES, *(-v for v in E2M1_VALUES)], dtype=torch.float32)


def e8m0_codes(v: Tensor) -> Tensor:
    """Biased exponent of each nonnegative value rounded up to a power of two: the code of an E8M0 scale.

    0 gives 0, infinity 0xFE, NaN 0xFF; subnormals up to 2^−127 give 0.

    Args:
        v: float32, not negative.
    """
    bits = v.contiguous().view(torch.int32)
    exponent, significand = bits >> 23, bits & 0x7F_FFFF
    up = (significand > 0) & (exponent < 0xFE) & ~((exponent == 0) & (significand <= 0x40_0000))
    codes = exponent + up.int()
    codes = codes.masked_fill(bits == _INFINITY, 0xFE).masked_fill(bits > _INFINITY, 0xFF)
    return codes.to(torch.uint8)


def e8m0_reciprocals(codes: Tensor) -> Tensor:
    """2^(127 − code) as float32: what elements are multiplied by before the cast; NaN for 0xFF."""
    biased = (254 - codes.int()) << 23
    biased = biased.masked_fill(codes == 254, 0x40_0000)  # 2^−127, a subnormal
    return biased.masked_fill(codes == 255, 0x7FFF_FFFF).view(torch.float32)


def e8m0_values(codes: Tensor) -> Tensor:
    """2^(code − 127) as float32: what elements are multiplied by after the cast; NaN for 0xFF."""
    biased = codes.int() << 23
    biased = biased.masked_fill(codes == 0, 0x40_0000)
    return biased.masked_fill(codes == 255, 0x7FFF_FFFF).view(torch.float32)
