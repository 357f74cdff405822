"""Which inputs go into a golden table, each with its reason."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from mpmath.libmp import fhalf, from_float, mpf_abs, mpf_shift, mpf_sub, to_float
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat, output_format
from precision_lab.oracle import evaluate, reference
from precision_lab.oracle.curve import Curve
from precision_lab.oracle.plain_roots import roots_of

Float64 = NDArray[np.float64]

# 40 digits are 133 bits; the rest makes rounding the 40th digit the wrong way as good as impossible.
EXACT_BITS = 256
SCANNED = (2.0**-8, 16.0)  # |x| among which the hardest input to round is looked for
SCAN_LIMIT = 4096  # inputs scanned; where the range holds more numbers, a seeded sample of them
REFINED = 16  # candidates for the hardest input whose distance is measured exactly


class _Chosen:
    """Inputs of one format with the reasons for them."""

    def __init__(self, fmt: FloatFormat) -> None:
        self.fmt = fmt
        self.reasons: dict[int, list[str]] = {}

    def add(self, values: Iterable[float], reason: str, *, neighbours: bool = False) -> None:
        """Add the nearest numbers of the format, and those next to them; zero only when asked for."""
        for value in values:
            nearest = self.fmt.round(np.array([value], np.float64))
            if np.isinf(nearest[0]) != np.isinf(value) or (nearest[0] == 0) != (value == 0):
                continue
            self._note(nearest, reason)
            if neighbours:
                below, above = self.fmt.neighbours(nearest)
                self._note(below, f"below {reason}")
                self._note(above, f"above {reason}")

    def _note(self, x: Float64, reason: str) -> None:
        if np.isinf(x[0]) and not self.fmt.has_infinity:
            return
        noted = self.reasons.setdefault(int(self.fmt.encode(x)[0]), [])
        if reason not in noted:
            noted.append(reason)

    def sorted(self) -> tuple[Float64, list[str]]:
        """Inputs from -inf to +inf, -0 before +0, NaN last, and their reasons."""
        bits = np.array(sorted(self.reasons), self.fmt.bits_dtype)
        x = self.fmt.decode(bits)
        order = np.lexsort((~np.signbit(x), np.nan_to_num(x, nan=np.inf), np.isnan(x)))
        return x[order], ["; ".join(self.reasons[int(b)]) for b in bits[order]]


def choose_inputs(curve: Curve, fmt: FloatFormat) -> tuple[Float64, list[str]]:
    """The inputs of a table for one output and parameter set, ascending, and why each is there."""
    chosen = _Chosen(fmt)
    chosen.add((-0.0, 0.0), "zero")
    for name, value in (("smallest subnormal", fmt.min_subnormal), ("largest finite", fmt.max_finite)):
        chosen.add((-value, value), name)
    for name, value in (("smallest normal", fmt.min_normal), ("1", 1.0)):
        chosen.add((-value, value), name, neighbours=True)
    chosen.add((-1e-6,), "eps 1e-6", neighbours=True)
    chosen.add((1e-6,), "eps 1e-6")
    for of in dict.fromkeys(("forward", "grad_x", curve.output)):
        if not of.startswith("grad_raw_"):  # a raw gradient has the roots of the effective one
            chosen.add(roots_of(curve.function, of, curve.params), f"root of {of}", neighbours=True)
    log_max = math.log(fmt.max_finite)
    chosen.add((-log_max, log_max), "exp(|x|) reaches the largest finite", neighbours=True)
    chosen.add(_switches(curve, fmt), "result stops being finite or nonzero", neighbours=True)
    exponents = np.linspace(fmt.emin, fmt.emax, 7).round().astype(int)
    chosen.add((s * 2.0**e for e in exponents for s in (-1.0, 1.0)), "power of two")
    for reason, x in _hard_cases(curve, fmt):
        chosen.add((x,), reason)
    random = _generator(curve, fmt, "rows")
    body = np.ldexp(random.uniform(1, 2, 6), random.integers(max(-12, fmt.emin), 5, 6))
    chosen.add(np.copysign(body, random.choice((-1.0, 1.0), 6)).tolist(), "random")
    chosen.add((-math.inf, math.inf), "infinity")
    chosen.add((math.nan,), "NaN")
    return chosen.sorted()


def _generator(curve: Curve, fmt: FloatFormat, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the table, not on the order in which tables are written."""
    return np.random.default_rng(
        zlib.crc32(f"{curve.function.name}/{curve.output}/{fmt.name}/{purpose}".encode())
    )


def _switches(curve: Curve, fmt: FloatFormat) -> Iterator[float]:
    """Last input, going out from ±1, with a finite result, and with a nonzero one, where that ends."""
    target = output_format(fmt, curve.output)
    start, end = (int(o) for o in fmt.ordinal(np.array([1.0, fmt.max_finite])))
    for sign in (-1, 1):
        for property_ in ("finite", "nonzero"):

            def holds(ordinal: int, sign: int = sign, property_: str = property_) -> bool:
                x = fmt.from_ordinal(np.array([sign * ordinal]))
                rounded = float(reference(curve.function, curve.output, curve.params, x, target).rounded[0])
                return math.isfinite(rounded) if property_ == "finite" else rounded != 0

            low, high = start, end
            if not holds(low) or holds(high):
                continue
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if holds(middle) else (low, middle)
            yield float(fmt.from_ordinal(np.array([sign * low]))[0])


def _hard_cases(curve: Curve, fmt: FloatFormat) -> Iterator[tuple[str, float]]:
    """The first exact tie and the hardest other input to round among the scanned ones."""
    target = output_format(fmt, curve.output)
    low, high = (int(o) for o in fmt.ordinal(np.array(SCANNED)))
    if 2 * (high - low) <= SCAN_LIMIT:
        ordinals, scanned = np.arange(low, high), "all"
    else:
        drawn = _generator(curve, fmt, "scan").integers(low, high, SCAN_LIMIT // 2)
        ordinals, scanned = np.unique(drawn), f"{SCAN_LIMIT} sampled"
    x = fmt.from_ordinal(np.concatenate((-ordinals[::-1], ordinals)))
    ref = reference(curve.function, curve.output, curve.params, x, target)
    usable = ~ref.undecided & np.isfinite(ref.rounded) & (np.abs(ref.rounded) >= target.min_normal)
    distance = np.where(usable, np.abs(0.5 - np.abs(ref.tail)), 1.0)
    ties = np.flatnonzero(distance == 0)
    if ties.size:
        yield "exact tie", float(x[ties[0]])
    # The vectorised tails are good to 2^-10; the nearest few are measured again exactly.
    nearest = [int(i) for i in np.argsort(distance, kind="stable") if 0 < distance[i] < 0.125]
    measured = []
    for i in nearest[:REFINED]:
        ulps = _exact_ulps(curve, float(x[i]), float(ref.rounded[i]), float(ref.ulp[i]))
        # From the exact tail: as a float64 it may read 0.5 long before it is a tie.
        to_midpoint = abs(float(to_float(mpf_sub(fhalf, mpf_abs(ulps)))))
        if to_midpoint > 2.0**-200:
            measured.append((to_midpoint, float(x[i])))
    if measured:
        to_midpoint, hardest = min(measured)
        yield f"hardest of {scanned} with 2^-8<=|x|<16: {to_midpoint:.2g} ulps from a midpoint", hardest


def _exact_ulps(curve: Curve, x: float, rounded: float, ulp: float) -> Any:
    """(exact − rounded) in ulps as a raw mpmath number, to EXACT_BITS of the exact value."""
    value = evaluate(curve.function, x, curve.params, output=curve.output, bits=EXACT_BITS)
    return mpf_shift(mpf_sub(value._mpf_, from_float(rounded)), 1 - math.frexp(ulp)[1])


def exact_tail(curve: Curve, x: float, rounded: float, ulp: float) -> float:
    """(exact − rounded) in ulps, from the exact value rather than from a vectorised tier."""
    tail = float(to_float(_exact_ulps(curve, x, rounded, ulp)))
    # Below that it is what EXACT_BITS left of an exact value, or could not see.
    return tail if abs(tail) > 2.0**-200 else 0.0
