"""Gradients element by element, each to be its upstream gradient times the derivative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.verifying.properties.subject import Subject

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

LOWEST, HIGHEST = -30, 16  # exponents between which upstream gradients are tried
ROOM = 32  # parts of a derivative may be so much larger than it, and overflow before it does
USED = 2.0**16  # no activation's input is larger
LUCKY = 16  # one in so many may be off where it was right for 1: what cancels may be lucky once


class Products:
    """One gradient of the pool's plain call, held to upstream gradient · exact derivative.

    Attributes:
        steady: elements whose gradient is within its limit for an upstream gradient of 1, and, once
            `significands` has run, for one of another significand too.

    Args:
        words: what is differentiated, for people.
        plain: the kernel's gradients for upstream gradients of 1.
    """

    def __init__(self, subject: Subject, output: str, words: str, plain: Float64) -> None:
        self.subject, self.output, self.words = subject, output, words
        self.exact = subject.exact[output].exact
        self.limit = subject.limits(output)
        index = np.arange(subject.size)
        self.right: Mask = subject.errors(output, plain, index) <= self.limit + CERTIFIED_ULPS
        self.plain = plain
        # Results for other significands, and for which, that were right: those for other exponents follow.
        self.base, self.base_weight = plain, np.ones(subject.size)
        # Where the plain gradient is wrong already, nothing can be said about its scaling.
        self.steady: Mask = self.right & np.isfinite(plain) & np.isfinite(self.exact)
        self.steady &= np.abs(self.exact) >= subject.fmt.min_normal

    def allowed(self, expected: Float64) -> Float64:
        """How far off a product may be.

        An error of L ulps of the derivative is, multiplied, less than 2L ulps of the product, whose
        significand may be just below 2 where the derivative's is 1. The product is rounded once, and
        an intermediate result beside it: one ulp more. The expected product in fp64 has two roundings
        of its own.
        """
        ulps = 2 * self.limit + 1 + 2 * CERTIFIED_ULPS + (2.0 if self.subject.fmt.bits == 64 else 0.0)
        return np.asarray(ulps * _ulp(self.subject.fmt, expected) + self.underflow())

    def underflow(self) -> Float64:
        """What subnormal factors of a product lose.

        Up to half the smallest number (or the smallest normal one, where they may be flushed), which
        what they are multiplied with makes larger, at most about 1 + |x| times.
        """
        fmt, bound = self.subject.fmt, self.subject.terms.bounds[self.output]
        smallest = fmt.min_normal if bound.flush_subnormals else fmt.min_subnormal
        with np.errstate(over="ignore"):
            return np.asarray(2 * smallest * (1 + np.abs(self.subject.x)))

    def off(self, values: Float64, weight: Float64) -> tuple[Mask, Mask, Float64]:
        """Which elements are judged, which of them are off, and what was expected.

        Judged are products that are normal numbers in range. Infinities and NaN are judged only well
        within it: the parts that a product is made of may overflow before it does.
        """
        fmt = self.subject.fmt
        with np.errstate(invalid="ignore", over="ignore"):
            expected = weight * self.exact
            size = np.abs(expected)
            judged = self.steady & (size >= fmt.min_normal) & (size <= fmt.max_finite * (1 - 2.0**-3))
            roomy = (size <= fmt.max_finite / ROOM) & (np.abs(weight) <= fmt.max_finite / ROOM)
            judged &= np.isfinite(values) | (roomy & (np.abs(self.subject.x) <= USED))
            wrong = judged & ~(np.abs(values - expected) <= self.allowed(np.where(judged, expected, 0.0)))
        return judged, wrong, expected

    def significands(self, values: Float64, weight: Float64, again: Callable[[], Float64]) -> None:
        """Judges products with upstream gradients of one binade, and keeps those that are right.

        Args:
            again: the same gradients from a call in which they are asked for alone.
        """
        judged, wrong, _ = self.off(values, weight)
        if wrong.sum() > judged.sum() // LUCKY:
            values = again()
            _, wrong, expected = self.off(values, weight)
            if wrong.sum() > judged.sum() // LUCKY:
                self.ignored("random numbers between 1 and 2, of both signs", values, weight, wrong, expected)
        self.steady &= judged & ~wrong
        self.base, self.base_weight = values, weight

    def unscaled(self, values: Float64, weight: Float64) -> tuple[Mask, Float64]:
        """Which elements are off, though their upstream gradient differs by a power of two from one for
        which they were right, and what was expected.
        """
        _, wrong, expected = self.off(values, weight)
        with np.errstate(invalid="ignore", over="ignore"):
            same = self.base * (weight / self.base_weight)
            allowed = _ulp(self.subject.fmt, np.where(wrong, same, 0.0)) + self.underflow()
            wrong &= ~(np.abs(values - same) <= allowed)
        return wrong, expected

    def scaled(self, values: Float64, weight: Float64, again: Callable[[], Float64], where: str = "") -> None:
        """Judges products with the same significands and other exponents: it is the same arithmetic, so
        that nothing may be off.
        """
        wrong, expected = self.unscaled(values, weight)
        if wrong.any():
            values = again()
            wrong, expected = self.unscaled(values, weight)
        if not wrong.any():
            return
        if where:
            self.ignored(where, values, weight, wrong, expected)
            return
        exponent = np.frexp(weight)[1] - 1
        # Magnitudes about 1 are right: what fails lies below them, above them, or on either side.
        for side in (wrong & (exponent < 0), wrong & (exponent >= 0)):
            if side.any():
                low, high = int(exponent[side].min()), int(exponent[side].max()) + 1
                self.ignored(f"2^{low} to 2^{high}", values, weight, side, expected)

    def ignored(
        self, where: str, values: Float64, weight: Float64, wrong: Mask, expected: Float64
    ) -> None:  # fmt: skip
        """The fault of a gradient that does not scale with its upstream gradient."""
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(values - expected) / _ulp(self.subject.fmt, np.where(wrong, expected, 0.0))
        i = int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)))
        self.subject.fault(
            "ignores_upstream",
            f"with upstream gradients of {where}, {self.words} is wrong: with {float(weight[i])!r} at "
            f"{self.subject.at(i)} it is {float(values[i])!r} instead of {float(expected[i])!r}; "
            f"{int(wrong.sum())} are off",
            self.output, ulps=float(np.nan_to_num(error[i], nan=np.inf)), count=int(wrong.sum()),
        )  # fmt: skip


def exponents(fmt: FloatFormat) -> NDArray[np.int64]:
    """Exponents of upstream gradients that are normal numbers of the format, ascending."""
    return np.arange(max(LOWEST, fmt.emin), min(HIGHEST, fmt.emax + 1))


def random_significands(fmt: FloatFormat, size: int, generator: np.random.Generator) -> Float64:
    """Numbers of the format with random signs and significands in [1, 2)."""
    largest = 1 << fmt.fraction_bits
    digits = generator.integers(largest, 2 * largest, size)
    return np.asarray(digits / largest * generator.choice([-1.0, 1.0], size), np.float64)


def spread(
    fmt: FloatFormat, significand: Float64, rounds: int, generator: np.random.Generator
) -> list[Float64]:
    """Upstream gradients with these significands: in each round another exponent for every element,
    so that each meets small and large ones.
    """
    known = exponents(fmt)
    first = generator.integers(0, known.size, significand.size)
    found = []
    for k in range(rounds):
        exponent = known[(first + k * known.size // rounds) % known.size]
        found.append(np.clip(np.ldexp(significand, exponent), -fmt.max_finite, fmt.max_finite))
    return found


def _ulp(fmt: FloatFormat, values: Float64) -> Float64:
    return fmt.ulp(np.where(np.isfinite(values), values, 0.0))
