"""FP32 to FP8, FP4 and power-of-two scales by integer arithmetic: the same bits in every torch version.

torch's own casts are not used: what they make of overflow differs between its versions. What the formats
are is `formats.FORMATS`'; here is what a cast decides for itself, such as the code that NaN gets.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError, WrongTypeError
from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.formats.cast_loops import e2m1_codes_cpu, fp8_codes_cpu

_FP32, _E2M1, _E8M0 = FORMATS["fp32"], FORMATS["e2m1"], FORMATS["e8m0"]
_MAGNITUDE = _FP32.sign_mask - 1
_INFINITY = _FP32.max_code + 1
_FRACTION = (1 << _FP32.fraction_bits) - 1
_HALF = 1 << (_FP32.fraction_bits - 1)  # 2^−127 as FP32: E8M0's code 0, a subnormal
_E2M1_VALUES = _E2M1.decode(np.arange(_E2M1.n_magnitudes, dtype=np.uint8)).tolist()


def nan_code(fmt: FloatFormat) -> int:
    """The code that a cast gives NaN: the format's last, as a GPU's conversion has it, in E5M2 too."""
    return fmt.nan_codes[-1]


def fp8_codes(x: Tensor, fmt: FloatFormat, *, saturating: bool = True) -> Tensor:
    """Each value rounded to nearest, ties to even, as the format's bit pattern.

    Args:
        x: float32, any shape.
        fmt: E4M3 or E5M2.
        saturating: overflow and infinities give the largest finite number; otherwise overflow gives
            infinity in E5M2 and NaN in E4M3. NaN gives NaN (`nan_code`) either way.

    Returns:
        uint8, the shape of x.

    Raises:
        ValueError: fmt is not an FP8 format.
        TypeError: x is not float32.
    """
    if fmt.bits != 8 or not fmt.rounds:
        raise UsageError(f"fmt={fmt.name!r}: not an FP8 format; e4m3 or e5m2")
    if x.dtype != torch.float32:
        raise WrongTypeError(f"x.dtype={x.dtype}: a cast to FP8 starts from float32")
    if x.device.type == "cpu":
        return torch.from_numpy(fp8_codes_cpu(x.contiguous().numpy(), fmt, saturating))
    return _fp8_codes(x, fmt, saturating)


def _fp8_codes(x: Tensor, target: FloatFormat, saturating: bool) -> Tensor:
    bits = x.contiguous().view(torch.int32)
    magnitude = bits & _MAGNITUDE
    dropped = _FP32.fraction_bits - target.fraction_bits
    # Half of what is dropped, less one, plus the bit that stays: ties go to even, and a carry out of the
    # significand raises the exponent as it should.
    rounded = magnitude + ((magnitude >> dropped) & 1)
    rounded += (1 << (dropped - 1)) - 1 - ((_FP32.bias - target.bias) << _FP32.fraction_bits)
    rounded >>= dropped
    # Below emin: in [2^k, 2^k + 2^emin), k = 23 + the exponent of the smallest subnormal, FP32 numbers are
    # the format's subnormals apart; the addition rounds, ties to even.
    anchor = target.min_subnormal * 2.0**_FP32.fraction_bits
    small = (magnitude.view(torch.float32) + anchor).view(torch.int32)
    small -= int(np.float32(anchor).view(np.int32))
    normal = magnitude >= (_FP32.bias + target.emin) << _FP32.fraction_bits
    codes = torch.where(normal, rounded, small)
    largest = target.max_code
    if saturating:
        codes.clamp_(max=largest)
    else:
        codes.masked_fill_(codes > largest, largest + 1)  # infinity, or the NaN that stands in its place
    codes.masked_fill_(magnitude > _INFINITY, nan_code(target))
    codes |= torch.where(magnitude > _INFINITY, 0, (bits >> (_FP32.bits - target.bits)) & target.sign_mask)
    return codes.to(torch.uint8)


@lru_cache
def _table(fmt: FloatFormat) -> Tensor:
    return torch.from_numpy(fmt.decode(fmt.all_bits()).astype(np.float32))


def values_of(codes: Tensor, fmt: FloatFormat) -> Tensor:
    """The float32 value of each code of a format of up to 8 bits; uint8 in, any shape."""
    return _table(fmt).to(codes.device)[codes.int()]


def e2m1_codes(x: Tensor) -> Tensor:
    """Each value rounded to E2M1, nearest, ties to even, saturating at ±6, its sign kept; NaN gives +6.

    That is this cast's rule: E2M1 has no NaN, and OCP MX 1.0 leaves open what becomes of one.

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
    # The midpoint between neighbours is a tie, which goes to the even code.
    codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for code, (below, above) in enumerate(pairwise(_E2M1_VALUES)):
        midpoint = (below + above) / 2
        codes += magnitude >= midpoint if code % 2 else magnitude > midpoint
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
    for value in _E2M1_VALUES[1:]:
        codes += raised >= value
    return _signed(codes, x)


def _signed(codes: Tensor, x: Tensor) -> Tensor:
    nan = x.isnan()
    codes.masked_fill_(nan, _E2M1.max_code)
    return codes | (torch.signbit(x) & ~nan).to(torch.uint8) * _E2M1.sign_mask


def e8m0_codes(v: Tensor) -> Tensor:
    """Code of an E8M0 scale for each nonnegative value, rounded up to a power of two.

    0 gives the smallest, infinity the largest, NaN NaN. The codes are FP32's biased exponents.

    Args:
        v: float32, not negative.
    """
    bits = v.contiguous().view(torch.int32)
    exponent, significand = bits >> _FP32.fraction_bits, bits & _FRACTION
    up = (significand > 0) & (exponent < _E8M0.max_code) & ~((exponent == 0) & (significand <= _HALF))
    codes = exponent + up.int()
    codes = codes.masked_fill(bits == _INFINITY, _E8M0.max_code)
    codes = codes.masked_fill(bits > _INFINITY, nan_code(_E8M0))
    return codes.to(torch.uint8)


def e8m0_reciprocals(codes: Tensor) -> Tensor:
    """2^(127 − code) as float32: what elements are multiplied by before the cast; NaN for NaN."""
    return _powers(2 * _E8M0.bias - codes.int(), codes)


def e8m0_values(codes: Tensor) -> Tensor:
    """2^(code − 127) as float32: what elements are multiplied by after the cast; NaN for NaN."""
    return _powers(codes.int(), codes)


def _powers(biased: Tensor, codes: Tensor) -> Tensor:
    """2^(biased − 127) as float32, by FP32's bits; NaN where the codes are."""
    bits = (biased << _FP32.fraction_bits).masked_fill(biased == 0, _HALF)
    return bits.masked_fill(codes == nan_code(_E8M0), _MAGNITUDE).view(torch.float32)
