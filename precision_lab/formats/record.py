"""What a floating-point format is: its record, and what follows from it alone.

The codes of one sign are numbers in ascending order, then infinity where there is one; all others are NaN.
So the largest number and whether there is an infinity say what every code is.
"""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.exceptions import UsageError


@dataclass(frozen=True)
class FormatRecord:
    """A binary floating-point format as data.

    Attributes:
        name: the project's name, e.g. "bf16".
        bits: width of a code, its sign included; `storage_bits` is what one takes in memory.
        precision: p, the bits of the significand including the implicit one.
        emin: exponent of the smallest normal number, 2^emin.
        emax: exponent of the largest finite number.
        max_significand: integer significand (p bits) of the largest finite number.
        has_infinity: False where a format spends the code on a number (E4M3) or on nothing.
        torch_name: attribute of `torch` naming the dtype whose elements are single codes; None without one.
        description: one line for people.
        signed: whether the top bit of a code is a sign.
        has_zero: whether the biased exponent 0 holds zero and the subnormals; if not, it is an exponent as
            any other.

    Raises:
        ValueError: numbers that contradict each other or do not fit into the code, or a format that float64
            does not hold.
    """

    name: str
    bits: int
    precision: int
    emin: int
    emax: int
    max_significand: int
    has_infinity: bool
    torch_name: str | None
    description: str
    signed: bool = True
    has_zero: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= 53 or self.emin - self.fraction_bits < -1074 or self.emax > 1023:
            self._refuse("precision", "emin", "emax", why="float64 does not hold all of its numbers")
        if not 1 << self.fraction_bits <= self.max_significand < 1 << self.precision:
            self._refuse("precision", "max_significand", why="the significand of a normal number has p bits")
        if self.emin > self.emax:
            self._refuse("emin", "emax", why="there is no normal number")
        if not self.max_code + self.has_infinity < self.n_magnitudes or self.bits > 64:
            self._refuse("bits", "emin", "emax", "has_infinity", why="its codes do not fit")
        if self.bits == 64 and (self.precision, self.emin, self.has_infinity) != (53, -1022, True):
            self._refuse("bits", "precision", "emin", why="of 64 bits there is IEEE binary64 alone")

    def _refuse(self, *fields: str, why: str) -> None:
        given = ", ".join(f"{field}={getattr(self, field)!r}" for field in fields)
        raise UsageError(f"format {self.name!r}: {given}: {why}")

    # -- the code -----------------------------------------------------------------------------

    @property
    def storage_bits(self) -> int:
        """Bits that one code takes in an array: 4- and 6-bit codes lie one to a byte, in its low bits.

        Packed codes are a kernel's matter; the lab has none.
        """
        return next(width for width in (8, 16, 32, 64) if self.bits <= width)

    @property
    def fraction_bits(self) -> int:
        return self.precision - 1

    @property
    def exponent_bits(self) -> int:
        return self.bits - self.signed - self.fraction_bits

    @property
    def bias(self) -> int:
        """What is subtracted from a normal number's biased exponent."""
        return int(self.has_zero) - self.emin

    @property
    def n_patterns(self) -> int:
        return 1 << self.bits

    @property
    def n_magnitudes(self) -> int:
        """How many codes have one sign."""
        return 1 << (self.bits - self.signed)

    @property
    def sign_mask(self) -> int:
        """The sign bit; 0 in an unsigned format."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def max_code(self) -> int:
        """Code of the largest finite number."""
        implicit = 1 << self.fraction_bits
        return (self.emax + self.bias) * implicit + self.max_significand - implicit

    @property
    def infinity_code(self) -> int | None:
        """Code of +infinity; None without one."""
        return self.max_code + 1 if self.has_infinity else None

    @property
    def nan_codes(self) -> range:
        """Codes without a sign that are NaN; empty where all codes are numbers."""
        return range(self.max_code + 1 + self.has_infinity, self.n_magnitudes)

    @property
    def has_nan(self) -> bool:
        return bool(self.nan_codes)

    @property
    def nan_code(self) -> int | None:
        """Canonical quiet NaN; None without a NaN.

        Beside an infinity it has the top fraction bit alone (IEEE 754-2019 §6.2.1), else it is the last code.
        """
        if not self.has_nan:
            return None
        if not self.has_infinity or not self.fraction_bits:
            return self.nan_codes[-1]
        return self.max_code + 1 | 1 << (self.fraction_bits - 1)

    # -- the numbers --------------------------------------------------------------------------

    @property
    def max_finite(self) -> float:
        return self.max_significand * 2.0 ** (self.emax - self.fraction_bits)

    @property
    def min_normal(self) -> float:
        return 2.0**self.emin

    @property
    def min_subnormal(self) -> float:
        """The smallest positive number: subnormal unless the format has no zero or no fraction."""
        return 2.0 ** (self.emin - self.fraction_bits)

    @property
    def unit_roundoff(self) -> float:
        return 2.0**-self.precision

    @property
    def overflow_threshold(self) -> float:
        """Half an ulp beyond `max_finite`; float64 inf for fp64, where it is 2^1024 − 2^970.

        Where `max_significand` is odd the tie goes up (overflows), where it is even (E4M3) the tie stays at
        `max_finite`.
        """
        return (self.max_significand + 0.5) * 2.0 ** (self.emax - self.fraction_bits)

    @property
    def max_ordinal(self) -> int:
        """Ordinal of the largest finite number."""
        return self.max_code + (not self.has_zero)

    # -- what it is good for ------------------------------------------------------------------

    def check_rounds(self) -> None:
        """Nothing, where rounding to the format is defined.

        Raises:
            ValueError: it is not: a format without zero or sign, whose codes a recipe chooses.
        """
        if not self.rounds:
            raise UsageError(
                f"format {self.name!r} has no {'sign' if self.has_zero else 'zero'}, so not every value has "
                "a nearest number in it: choose its numbers by a recipe's rule, and encode them"
            )

    @property
    def rounds(self) -> bool:
        """Whether every real number has a nearest one here: it has a zero and both signs.

        E8M0 has neither. Its scales are chosen by a recipe's rule: OCP MX 1.0 §6.3 rounds the largest
        magnitude down to a power of two, Transformer Engine up, and libraries that cast to it differ in ties.
        """
        return self.signed and self.has_zero

    @property
    def always_saturates(self) -> bool:
        """Whether overflow gives the largest number whatever is asked: all codes are finite numbers."""
        return not self.has_infinity and not self.has_nan

    @property
    def for_kernels(self) -> bool:
        """Whether kernels can be measured in it: tensors of torch hold its codes, and `rounds`."""
        return self.torch_name is not None and self.rounds
