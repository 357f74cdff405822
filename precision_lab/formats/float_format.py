"""Floating-point formats: bits and values of each; the table of all.

A format is a `FormatRecord`; every operation derives from it, so adding a format is adding one
`FloatFormat` to FORMATS. Values travel as float64, which holds every value of every format here exactly,
and NaN and infinities of formats that lack them: what has no code is refused by `encode`.

Sources: IEEE 754-2019 §3.4 for fp64, fp32, fp16; bf16 is the upper half of fp32. OCP 8-bit Floating Point
Specification (OFP8) rev. 1.0 (2023) table 1 for E4M3 and E5M2. OCP Microscaling Formats (MX) Specification
rev. 1.0 (2023) §5.3 for the elements E3M2, E2M3, E2M1, §5.4 for the scale E8M0, §6.3 for overflow of
elements without infinity and NaN, which is clamped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.formats.record import FormatRecord
from precision_lab.registry import Registry

Float64 = NDArray[np.float64]
Bits = NDArray[Any]


@dataclass(frozen=True)
class FloatFormat(FormatRecord):
    """A format with its arithmetic; what it consists of is `FormatRecord`'s.

    >>> bf16 = FORMATS["bf16"]
    >>> x = bf16.round(np.array([0.1, 3e38]))
    >>> [value.hex() for value in x.tolist()]
    ['0x1.9a00000000000p-4', '0x1.c400000000000p+127']
    >>> [hex(code) for code in bf16.encode(x)]
    ['0x3dcd', '0x7f62']
    >>> bf16.ulp(x).tolist() == [2.0**-11, 2.0**120]
    True
    """

    # -- bits and values ------------------------------------------------------

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        """numpy's dtype of a code in an array."""
        return np.dtype(f"uint{self.storage_bits}")

    def all_bits(self) -> Bits:
        """Every code, ascending as an unsigned integer; formats of up to 16 bits only.

        Raises:
            ValueError: a wider format.
        """
        if self.bits > 16:
            raise UsageError(
                f"all_bits holds every pattern in memory; format={self.name!r} has 2^{self.bits}"
            )
        return np.arange(self.n_patterns, dtype=self.bits_dtype)

    def decode(self, bits: Bits) -> Float64:
        """Exact value of each code, as float64; NaN codes give NaN.

        Raises:
            ValueError: a code that is wider than the format.
        """
        bits = np.asarray(bits)
        if self.bits == 64:
            return np.ascontiguousarray(bits, np.uint64).view(np.float64)
        code = bits.astype(np.int64)
        if self.bits < self.storage_bits and (code >> self.bits).any():
            wide = int(code[code >> self.bits != 0].flat[0])
            raise UsageError(f"bits={wide:#x} is no code of {self.name}, which has {self.bits} bits")
        magnitude = code & (self.n_magnitudes - 1)
        values = self._of_code(magnitude)
        values[magnitude > self.max_code + self.has_infinity] = np.nan
        signed: Float64 = np.where(code & self.sign_mask, -values, values)
        return signed

    def _of_code(self, code: NDArray[np.int64]) -> Float64:
        """Values of codes without a sign; infinity beyond the largest number."""
        fraction = code & ((1 << self.fraction_bits) - 1)
        biased = code >> self.fraction_bits
        # Subnormals have biased exponent 0 and no implicit bit; they share emin.
        implicit = biased >= int(self.has_zero)
        significand = np.where(implicit, fraction + (1 << self.fraction_bits), fraction)
        exponent = np.maximum(biased, int(self.has_zero)) - self.bias - self.fraction_bits
        values = np.asarray(np.ldexp(significand.astype(np.float64), exponent.astype(np.int32)))
        values[code > self.max_code] = np.inf
        return values

    def encode(self, values: Float64) -> Bits:
        """Code of each value, which must be one of the format's; NaN gives its canonical one.

        Raises:
            ValueError: a value that the format cannot represent, NaN included where it has none.
        """
        values = np.asarray(values, np.float64)
        if self.bits == 64:
            return values.view(np.uint64).copy()
        ordinal = np.zeros(values.shape, np.int64)
        finite = np.isfinite(values)
        magnitude = np.abs(values)
        ordinal[finite] = self._magnitude_ordinal(magnitude[finite])
        bad = finite & (magnitude > self.max_finite)
        bad[finite] |= self.from_ordinal(ordinal[finite]) != magnitude[finite]
        if not self.has_infinity:
            bad |= np.isinf(values)
        if not self.has_nan:
            bad |= np.isnan(values)
        if not self.signed:
            bad |= np.signbit(values) & ~np.isnan(values)
        if not self.has_zero:
            bad |= values == 0
        if bad.any():
            raise UsageError(self._no_code(float(values[bad].flat[0])))
        code = ordinal - (not self.has_zero)
        if self.infinity_code is not None:
            code[np.isinf(values)] = self.infinity_code
        if self.nan_code is not None:
            code[np.isnan(values)] = self.nan_code
        return np.where(np.signbit(values), code | self.sign_mask, code).astype(self.bits_dtype)

    def _no_code(self, value: float) -> str:
        what = f"value={value!r} ({value.hex()}) is not a {self.name} number"
        if value != value:
            return f"{what}: {self.name} has no NaN"
        if value == 0 and not self.has_zero:
            return f"{what}: {self.name} has no zero"
        if not self.signed and np.signbit(value):
            return f"{what}: {self.name} has no sign"
        return f"{what}; round it first" if self.rounds else what

    # -- neighbours and distances ---------------------------------------------

    def _magnitude_ordinal(self, magnitude: Float64) -> NDArray[np.int64]:
        if self.bits == 64:
            return magnitude.view(np.int64)
        exponent = self.exponent(magnitude).astype(np.int64)
        scaled = np.ldexp(magnitude, (self.fraction_bits - exponent).astype(np.int32)).astype(np.int64)
        # A normal number adds 2^(p-1) (its implicit bit) per biased exponent above 1.
        return scaled + ((exponent - self.emin) << self.fraction_bits)

    def ordinal(self, values: Float64) -> NDArray[np.int64]:
        """Monotone integer index: 0 for ±0, ±1 for the smallest numbers, and so on.

        Infinity follows the largest finite number, whether the format has it or not; likewise 0 lies below
        the smallest number of a format without zero. NaN has no place in the order.

        Raises:
            ValueError: a NaN among the values, or a negative one in an unsigned format.
        """
        values = np.asarray(values, np.float64)
        if np.isnan(values).any():
            raise UsageError("ordinal is defined for numbers; values contains NaN")
        self._check_sign("value", values)
        magnitude = np.abs(values)
        result = np.full(values.shape, self.max_ordinal + 1, np.int64)
        finite = np.isfinite(magnitude)
        result[finite] = self._magnitude_ordinal(magnitude[finite])
        return np.where(values < 0, -result, result)

    def from_ordinal(self, ordinals: NDArray[np.int64]) -> Float64:
        """Inverse of `ordinal`; beyond the largest finite number, infinity.

        Raises:
            ValueError: a negative ordinal in an unsigned format.
        """
        ordinals = np.asarray(ordinals, np.int64)
        self._check_sign("ordinal", ordinals)
        magnitude = np.abs(ordinals)
        if self.bits == 64:
            values = np.minimum(magnitude, self.max_ordinal + 1).view(np.float64)
        elif self.has_zero:
            values = self._of_code(magnitude)
        else:
            values = np.where(magnitude == 0, 0.0, self._of_code(np.maximum(magnitude - 1, 0)))
        return np.where(ordinals < 0, -values, values)

    def _check_sign(self, name: str, values: NDArray[Any]) -> None:
        if not self.signed and (values < 0).any():
            raise UsageError(f"{name}={values[values < 0].flat[0]!r}: {self.name} has no sign")

    def neighbours(self, values: Float64) -> tuple[Float64, Float64]:
        """Next number below and next number above each value (±0 count as one number).

        Beyond the largest lies infinity, and 0 below the smallest of a format without a sign.
        """
        ordinals = self.ordinal(values)
        limit = self.max_ordinal + 1
        return (
            self.from_ordinal(np.maximum(ordinals - 1, -limit if self.signed else 0)),
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
        """Round float64 values to the format, to nearest, ties to even; NaN stays NaN.

        Overflow gives infinity, or NaN in a format without one (E4M3); with `saturating`, or where the
        format has neither (FP6, FP4), it gives the largest finite number, infinities included.

        Raises:
            ValueError: a format to which rounding is not defined (E8M0).
        """
        self.check_rounds()
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
        """Replace numbers beyond `max_finite` by what the format has for them: see `round`."""
        over = np.abs(rounded) > self.max_finite
        if not over.any():
            return rounded
        saturating = saturating or self.always_saturates
        beyond = self.max_finite if saturating else np.inf if self.has_infinity else np.nan
        return np.where(over, np.copysign(beyond, rounded), rounded)


def _ieee(name: str, bits: int, precision: int, emax: int, torch_name: str, description: str) -> FloatFormat:
    return FloatFormat(name, bits, precision, 1 - emax, emax, 2**precision - 1, True, torch_name, description)


def _element(name: str, bits: int, precision: int, emin: int, emax: int, description: str) -> FloatFormat:
    """An element of MX blocks, all of whose codes are numbers; torch has none that is not packed in pairs."""
    return FloatFormat(name, bits, precision, emin, emax, 2**precision - 1, False, None, description)


FORMATS = Registry(
    "format",
    FloatFormat,
    (
        _ieee("fp64", 64, 53, 1023, "float64", "IEEE binary64"),
        _ieee("fp32", 32, 24, 127, "float32", "IEEE binary32"),
        _ieee("bf16", 16, 8, 127, "bfloat16", "bfloat16: fp32's range, 8 bits of significand"),
        _ieee("fp16", 16, 11, 15, "float16", "IEEE binary16"),
        # 0x7f/0xff are NaN; S.1111.110 = 1.75 * 2^8 = 448 is the largest number.
        FloatFormat(
            "e4m3", 8, 4, -6, 8, 0b1110, False, "float8_e4m3fn", "OCP FP8 E4M3: no infinity, max 448"
        ),
        _ieee("e5m2", 8, 3, 15, "float8_e5m2", "OCP FP8 E5M2: infinities, max 57344"),
        _element("e3m2", 6, 3, -2, 4, "OCP FP6 E3M2: no infinity, no NaN, max 28"),
        _element("e2m3", 6, 4, 0, 2, "OCP FP6 E2M3: no infinity, no NaN, max 7.5"),
        _element("e2m1", 4, 2, 0, 2, "OCP FP4 E2M1: no infinity, no NaN, max 6"),
        FloatFormat(
            "e8m0", 8, 1, -127, 127, 1, False, "float8_e8m0fnu",
            "OCP MX scale E8M0: 2^-127 to 2^127 and NaN, no sign, no zero", signed=False, has_zero=False,
        ),
    ),
    spellings={
        "float64": ("fp64",), "double": ("fp64",), "float32": ("fp32",), "float": ("fp32",),
        "single": ("fp32",), "tf32": ("fp32",), "bfloat16": ("bf16",), "bfloat": ("bf16",),
        "float16": ("fp16",), "half": ("fp16",), "fp8": ("e4m3", "e5m2"), "float8": ("e4m3", "e5m2"),
        "float8_e4m3fn": ("e4m3",), "fp8_e4m3": ("e4m3",), "e4m3fn": ("e4m3",),
        "float8_e5m2": ("e5m2",), "fp8_e5m2": ("e5m2",), "fp6": ("e2m3", "e3m2"), "fp4": ("e2m1",),
        "nvfp4": ("e2m1",), "mxfp4": ("e2m1",), "mxfp8": ("e4m3", "e5m2"), "float8_e8m0fnu": ("e8m0",),
    },
)  # fmt: skip


def get_format(fmt: str | FloatFormat) -> FloatFormat:
    """The registered format of that name.

    >>> e4m3 = get_format("e4m3")
    >>> e4m3.precision, e4m3.max_finite, e4m3.min_subnormal
    (4, 448.0, 0.001953125)

    Raises:
        ValueError: no such format; names the nearest ones.
    """
    return FORMATS.get(fmt)


KERNEL_FORMATS = tuple(name for name, fmt in FORMATS.items() if fmt.for_kernels)


def kernel_format(fmt: str | FloatFormat) -> FloatFormat:
    """The registered format of that name, one that kernels can be measured in.

    Raises:
        ValueError: as `get_format`; a format whose values no kernel takes, such as E2M1.
    """
    found = FORMATS.get(fmt)
    if not found.for_kernels:
        why = "torch has no dtype of it" if found.torch_name is None else "it has no sign or no zero"
        raise UsageError(
            f"format {found.name!r}: {why}, so no kernel can be measured in it; "
            f"choose one of {', '.join(KERNEL_FORMATS)}"
        )
    return found


def output_format(fmt: FloatFormat, output: str) -> FloatFormat:
    """Format in which an output is stored for inputs of `fmt`: E4M3 activations have E5M2 gradients."""
    return FORMATS["e5m2"] if fmt.name == "e4m3" and output != "forward" else fmt
