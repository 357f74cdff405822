"""Floating-point formats as data; the only owner of bit layouts.

A format is its bit counts and its special values; every operation derives from
them, so adding a format is adding one `FloatFormat`. Values travel as float64,
which holds every value of every format here exactly.

Sources: IEEE 754-2019 §3.4 for fp64, fp32, fp16; OCP 8-bit Floating Point
Specification (OFP8) rev. 1.0 (2023) table 1 for E4M3 and E5M2; bf16 is the upper
half of fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError, unknown_name

Float64 = NDArray[np.float64]
Bits = NDArray[Any]


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format.

    Attributes:
        name: the project's name, e.g. "bf16".
        bits: storage width.
        precision: p, the bits of the significand including the implicit one.
        emin: exponent of the smallest normal number, 2^emin.
        emax: exponent of the largest finite number.
        max_significand: integer significand (p bits) of the largest finite number.
        has_infinity: False where the format (E4M3) spends the encoding on numbers.
        torch_name: attribute of `torch` naming the dtype.
        description: one line for people.
    """

    name: str
    bits: int
    precision: int
    emin: int
    emax: int
    max_significand: int
    has_infinity: bool
    torch_name: str
    description: str

    @property
    def fraction_bits(self) -> int:
        return self.precision - 1

    @property
    def n_patterns(self) -> int:
        return 1 << self.bits

    @property
    def sign_mask(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        return np.dtype(f"uint{self.bits}")

    @property
    def max_finite(self) -> float:
        return self.max_significand * 2.0 ** (self.emax - self.fraction_bits)

    @property
    def min_normal(self) -> float:
        return 2.0**self.emin

    @property
    def min_subnormal(self) -> float:
        return 2.0 ** (self.emin - self.fraction_bits)

    @property
    def unit_roundoff(self) -> float:
        return 2.0**-self.precision

    @property
    def overflow_threshold(self) -> float:
        """Half an ulp beyond `max_finite`; float64 inf for fp64, where it is 2^1024 − 2^970.

        Where `max_significand` is odd the tie goes up (to infinity or NaN), where it is
        even (E4M3) the tie stays at `max_finite`.
        """
        return (self.max_significand + 0.5) * 2.0 ** (self.emax - self.fraction_bits)

    @property
    def max_ordinal(self) -> int:
        """Ordinal of the largest finite number."""
        biased = self.emax - self.emin + 1
        return (biased << self.fraction_bits) + self.max_significand - (1 << self.fraction_bits)

    @cached_property
    def _infinity_magnitude(self) -> int:
        """Magnitude bits of infinity, or, without one, of the NaN that overflow gives."""
        return self.max_ordinal + 1 if self.has_infinity else self.sign_mask - 1

    # -- bits and values ------------------------------------------------------

    def all_bits(self) -> Bits:
        """Every bit pattern, ascending as an unsigned integer; 8- and 16-bit formats only."""
        if self.bits > 16:
            raise UsageError(
                f"all_bits holds every pattern in memory; format={self.name!r} has 2^{self.bits}"
            )
        return np.arange(self.n_patterns, dtype=self.bits_dtype)

    def decode(self, bits: Bits) -> Float64:
        """Exact value of each bit pattern, as float64; NaN patterns give NaN."""
        bits = np.asarray(bits)
        if self.bits == 64:
            return np.ascontiguousarray(bits, np.uint64).view(np.float64)
        magnitude = bits.astype(np.int64) & (self.sign_mask - 1)
        fraction = magnitude & ((1 << self.fraction_bits) - 1)
        biased = magnitude >> self.fraction_bits
        # Subnormals have biased exponent 0 and no implicit bit; they share emin.
        significand = np.where(biased > 0, fraction + (1 << self.fraction_bits), fraction)
        exponent = np.maximum(biased, 1) + (self.emin - 1) - self.fraction_bits
        values = np.ldexp(significand.astype(np.float64), exponent.astype(np.int32))
        if self.has_infinity:
            values[magnitude == self._infinity_magnitude] = np.inf
        values[magnitude > (self._infinity_magnitude if self.has_infinity else self.max_ordinal)] = np.nan
        signed: Float64 = np.where(bits.astype(np.int64) & self.sign_mask, -values, values)
        return signed

    def encode(self, values: Float64) -> Bits:
        """Bit pattern of each value, which must be one of the format's (or NaN).

        Raises:
            ValueError: a value the format cannot represent; round first.
        """
        values = np.asarray(values, np.float64)
        if self.bits == 64:
            return values.view(np.uint64).copy()
        ordinal = np.zeros(values.shape, np.int64)
        finite = np.isfinite(values)
        ordinal[finite] = self._magnitude_ordinal(np.abs(values[finite]))
        bad = finite & (np.abs(values) > self.max_finite)
        bad[finite] |= self.from_ordinal(ordinal[finite]) != np.abs(values[finite])
        if not self.has_infinity:
            bad |= np.isinf(values)
        if bad.any():
            value = float(values[bad].flat[0])
            raise UsageError(f"value={value!r} ({value.hex()}) is not a {self.name} number; round it first")
        ordinal[np.isinf(values)] = self._infinity_magnitude
        ordinal[np.isnan(values)] = self._nan_magnitude
        return np.where(np.signbit(values), ordinal | self.sign_mask, ordinal).astype(self.bits_dtype)

    @property
    def _nan_magnitude(self) -> int:
        """Canonical quiet NaN: top fraction bit set; for E4M3 its only NaN."""
        if not self.has_infinity:
            return self.sign_mask - 1
        return self._infinity_magnitude | (1 << (self.fraction_bits - 1))

    # -- neighbours and distances ---------------------------------------------

    def _magnitude_ordinal(self, magnitude: Float64) -> NDArray[np.int64]:
        if self.bits == 64:
            return magnitude.view(np.int64)
        exponent = self.exponent(magnitude).astype(np.int64)
        scaled = np.ldexp(magnitude, (self.fraction_bits - exponent).astype(np.int32)).astype(np.int64)
        # A normal number adds 2^(p-1) (its implicit bit) per biased exponent above 1.
        return scaled + ((exponent - self.emin) << self.fraction_bits)

    def ordinal(self, values: Float64) -> NDArray[np.int64]:
        """Monotone integer index: 0 for ±0, ±1 for the smallest subnormals, and so on.

        Infinity follows the largest finite number. NaN has no place in the order.

        Raises:
            ValueError: a NaN among the values.
        """
        values = np.asarray(values, np.float64)
        if np.isnan(values).any():
            raise UsageError("ordinal is defined for numbers; values contains NaN")
        magnitude = np.abs(values)
        result = np.full(values.shape, self.max_ordinal + 1, np.int64)
        finite = np.isfinite(magnitude)
        result[finite] = self._magnitude_ordinal(magnitude[finite])
        return np.where(values < 0, -result, result)

    def from_ordinal(self, ordinals: NDArray[np.int64]) -> Float64:
        """Inverse of `ordinal`; beyond the largest finite number, infinity."""
        ordinals = np.asarray(ordinals, np.int64)
        magnitude = np.abs(ordinals)
        if self.bits == 64:
            values = np.minimum(magnitude, self.max_ordinal + 1).view(np.float64)
        else:
            biased = magnitude >> self.fraction_bits
            fraction = magnitude & ((1 << self.fraction_bits) - 1)
            significand = np.where(biased > 0, fraction + (1 << self.fraction_bits), fraction)
            exponent = np.maximum(biased, 1) + (self.emin - 1) - self.fraction_bits
            values = np.ldexp(significand.astype(np.float64), exponent.astype(np.int32))
            values = np.where(magnitude > self.max_ordinal, np.inf, values)
        return np.where(ordinals < 0, -values, values)

    def neighbours(self, values: Float64) -> tuple[Float64, Float64]:
        """Next number below and next number above each value (±0 count as one number)."""
        ordinals = self.ordinal(values)
        limit = self.max_ordinal + 1
        return (
            self.from_ordinal(np.maximum(ordinals - 1, -limit)),
            self.from_ordinal(np.minimum(ordinals + 1, limit)),
        )

    def exponent(self, values: Float64) -> NDArray[np.int32]:
        """max(floor(log2|v|), emin) of finite values; zero has emin."""
        values = np.asarray(values, np.float64)
        _, exponent = np.frexp(values)
        return np.where(values == 0, self.emin, np.maximum(exponent - 1, self.emin)).astype(np.int32)

    def ulp(self, values: Float64) -> Float64:
        """2^(max(e, emin) − p + 1), e the exponent of each finite value.

        Source: Muller, "On the definition of ulp(x)", INRIA RR-5504 (2005), Harrison's
        definition extended to subnormals; the value need not be of the format.
        """
        return np.ldexp(1.0, self.exponent(values) - self.fraction_bits)

    def round(self, values: Float64, *, saturating: bool = False) -> Float64:
        """Round float64 values to the format, to nearest, ties to even.

        Overflow gives infinity, or NaN in a format without one (E4M3); with
        `saturating` it gives the largest finite number, infinities included.
        """
        values = np.asarray(values, np.float64)
        if self.bits == 64:
            return values.copy()
        finite = np.isfinite(values)
        safe = np.where(finite, values, 0.0)
        ulp = self.ulp(safe)
        # safe/ulp is exact (power of two; no underflow: ulp >= 2^-149 here) and rint ties to even.
        with np.errstate(over="ignore"):  # near 2^1024 it becomes the infinity that it should
            rounded = np.where(finite, np.copysign(np.rint(safe / ulp) * ulp, safe), values)
        return self.overflow(rounded, saturating=saturating)

    def overflow(self, rounded: Float64, *, saturating: bool = False) -> Float64:
        """Replace numbers beyond `max_finite` by what the format has for them."""
        over = np.abs(rounded) > self.max_finite
        if not over.any():
            return rounded
        beyond = self.max_finite if saturating else np.inf if self.has_infinity else np.nan
        return np.where(over, np.copysign(beyond, rounded), rounded)


def _ieee(name: str, bits: int, precision: int, emax: int, torch_name: str, description: str) -> FloatFormat:
    return FloatFormat(name, bits, precision, 1 - emax, emax, 2**precision - 1, True, torch_name, description)


FORMATS: dict[str, FloatFormat] = {
    fmt.name: fmt
    for fmt in (
        _ieee("fp64", 64, 53, 1023, "float64", "IEEE binary64"),
        _ieee("fp32", 32, 24, 127, "float32", "IEEE binary32"),
        _ieee("bf16", 16, 8, 127, "bfloat16", "bfloat16: fp32's range, 8 bits of significand"),
        _ieee("fp16", 16, 11, 15, "float16", "IEEE binary16"),
        # 0x7f/0xff are NaN; S.1111.110 = 1.75 * 2^8 = 448 is the largest number.
        FloatFormat(
            "e4m3", 8, 4, -6, 8, 0b1110, False, "float8_e4m3fn", "OCP FP8 E4M3: no infinity, max 448"
        ),
        _ieee("e5m2", 8, 3, 15, "float8_e5m2", "OCP FP8 E5M2: infinities, max 57344"),
    )
}


def get_format(fmt: str | FloatFormat) -> FloatFormat:
    """The registered format of that name.

    Raises:
        ValueError: no such format; names the nearest ones.
    """
    if isinstance(fmt, FloatFormat):
        return fmt
    if fmt not in FORMATS:
        raise unknown_name("format", fmt, FORMATS)
    return FORMATS[fmt]


def output_format(fmt: FloatFormat, output: str) -> FloatFormat:
    """Format in which an output is stored for inputs of `fmt`: E4M3 activations have E5M2 gradients."""
    return FORMATS["e5m2"] if fmt.name == "e4m3" and output != "forward" else fmt
