"""What a `Reference` says, held to a number of many bits: rounding, tail, ulp, sign and value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from formula_witness import OUTSIDE, POLE, at

from precision_lab.formats import FORMATS, FloatFormat
from precision_lab.functions import Activation
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.record import Reference

# Precision in bits, and how near to an edge, in powers of two of an ulp, a number is too near for it. The
# last decides all: the square of what `jets.fading` gives for the largest float64 number shows beside 1.
LADDER: tuple[tuple[int, int | None], ...] = ((260, 40), (1200, 640), (9000, None))
EXACTLY = 2.0**-50  # of `Reference.exact`, which is to float64's precision
KINDS = ("bf16", "fp16", "fp32", "fp64", "e4m3", "e5m2")


def expected(v: Any, fmt: FloatFormat, near: int | None) -> tuple[float, float, float, int] | None:
    """rounded, tail, ulp and sign of a number, in integers.

    Args:
        near: None is returned for what is within 2^-near ulps of an edge; None: there is no such distance.
    """
    last, guard = near is None, 64 if near is None else near + 24
    negative, man, exp, bc = v._mpf_
    man, exp, bc = int(man), int(exp), int(bc)
    if not man:
        return (0.0, 0.0, 2.0 ** (fmt.emin - fmt.precision + 1), 0) if last else None
    unit = min(max(exp + bc - 1, fmt.emin), fmt.emax) - fmt.precision + 1
    shift = unit - exp  # v = man / 2^shift ulps
    scaled, sticky = man << guard, False
    if shift > 0:
        sticky = bool(scaled & ((1 << shift) - 1)) if shift < scaled.bit_length() else True
        scaled >>= shift
    else:
        scaled <<= -shift
    whole, rest = scaled >> guard, scaled & ((1 << guard) - 1)
    half = 1 << (guard - 1)
    if not last:
        # Where the ulp changes: at a power of two, from below and from above.
        at_power = (whole == 1 << (fmt.precision - 1) and rest < 1 << 24) or (
            whole + 1 == 1 << fmt.precision and 2 * half - rest < 1 << 24
        )
        if abs(rest - half) < 1 << 24 or at_power:
            return None
    up = rest > half or (rest == half and (sticky or whole & 1))
    tail = (rest >> (guard - 64)) / 2**64
    if up:
        whole, tail = whole + 1, tail - 1
    sign = -1 if negative else 1
    if whole << (unit + 10_000) > _largest(fmt):
        over = math.inf if fmt.has_infinity else math.nan
        if fmt.always_saturates:
            over = fmt.max_finite
        return sign * over, 0.0, 2.0**unit, sign
    return sign * math.ldexp(whole, unit), sign * tail, 2.0**unit, sign


@lru_cache(maxsize=32)
def _largest(fmt: FloatFormat) -> int:
    return fmt.max_significand << (fmt.emax - fmt.precision + 1 + 10_000)


def fault(result: Reference, i: int, v: Any, near: int | None) -> str | None:
    """What is wrong with input i, "open" where more bits have to say, None where nothing is."""
    fmt = result.fmt
    truth = expected(v, fmt, near)
    if truth is None:
        return "open"
    rounded, tail, ulp, sign = truth
    got = float(result.rounded[i])
    said = int(result.sign[i])
    wrong = []
    if result.undecided[i]:
        wrong.append("undecided")
    if not (got == rounded or (got != got and rounded != rounded)):
        wrong.append(f"rounded {got.hex()}, not {rounded.hex()}")
    if result.ulp[i] != ulp:
        wrong.append(f"ulp {float(result.ulp[i]).hex()}, not {ulp.hex()}")
    if not abs(result.tail[i] - tail) <= 2.0**-10:
        wrong.append(f"tail {float(result.tail[i])!r}, not {tail!r}")
    if abs(result.tail[i]) == 0.5 and not rounded and not (near is None and abs(tail) == 0.5):
        wrong.append("a tie at half the smallest number")
    invisible = not rounded and abs(tail) < 0.5
    if said != sign and not (said == 0 and invisible):
        wrong.append(f"sign {said}, not {sign}")
    exact = float(result.exact[i])
    if wrong:
        pass
    elif said == 0:  # below half the smallest number, and of no known sign
        if abs(exact) > 2.0 ** (fmt.emin - fmt.precision):
            wrong.append(f"exact {exact!r} for what is invisible")
    elif math.copysign(1, exact) != sign or not exact:
        wrong.append(f"exact {exact!r}, and sign {sign}")
    elif abs(v) < 1e308 and not abs(exact - v) <= abs(v) * EXACTLY + 2.0**-1074:
        wrong.append(f"exact {exact!r}, not {float(v)!r}")
    return "; ".join(wrong) or None


def faults(
    function: Activation, output: str, params: Mapping[str, float], x: Any, formats: Sequence[str],
    find: Callable[..., Reference] = certified_reference,
) -> list[str]:  # fmt: skip
    """Everything that the reference says wrongly of finite inputs; a value is computed once."""
    x = np.asarray(x, np.float64)
    results = [find(function, output, params, x, FORMATS[name]) for name in formats]
    steps = [(at(function.name, output, tuple(sorted(params.items())), bits), near) for bits, near in LADDER]
    outside, pole = OUTSIDE.get(function.name), POLE.get(function.name)
    found: list[str] = []
    for i, point in enumerate(x.tolist()):
        if outside is not None and outside(point):
            found += [f"{point.hex()} {r.fmt.name}: outside of the domain, {r.rounded[i]}" for r in results
                      if r.undecided[i] or r.rounded[i] == r.rounded[i]]  # fmt: skip
            continue
        if point == pole:
            continue
        for compute, near in steps:
            v = compute(point)
            said = [fault(result, i, v, near) for result in results]
            if not any(said):
                break
        found += [
            f"{point.hex()} {r.fmt.name}: {words}" for r, words in zip(results, said, strict=True) if words
        ]
    return found


def spread(values: Iterable[float], step: float) -> list[float]:
    """Values with neighbours on both sides, in fp32 and fp64."""
    found: set[float] = set()
    for v in values:
        if not math.isfinite(v):
            continue
        near = v
        for _ in range(3):
            found |= {near, -near}
            near = math.nextafter(near, step)
        with np.errstate(over="ignore", invalid="ignore"):
            single = np.float32(v)
            for _ in range(3):
                found |= {float(single), -float(single)}
                single = np.nextafter(single, np.float32(step))
    return [v for v in found if math.isfinite(v)]


def hard_inputs(around: Iterable[float]) -> Any:
    """Breakpoints and roots, 0, powers of two, the ends of every format, huge and subnormal; ascending."""
    powers = [2.0**k for k in (*range(-1074, 1024, 41), *range(-150, 128, 7), *range(-30, 12))]
    ends = [
        v
        for f in map(FORMATS.get, KINDS)
        for v in (f.max_finite, f.min_subnormal, 2.0**f.emin, f.min_subnormal / 2)
    ]
    levels = [k * math.log(2) for k in (8, 11, 24, 53, 126, 149, 150, 1022, 1074, 1075, 16, 24.5, 128, 1024)]
    centres = [
        *around,
        0.0,
        *powers,
        *ends,
        *levels,
        3.7e300,
        1e30,
        1e22,
        710.4,
        88.7,
        745.2,
        5.9,
        38.6,
        13.5,
    ]
    return np.array(sorted({v for step in (-math.inf, math.inf) for v in spread(centres, step)}))


def format_inputs(name: str) -> Any:
    """Every finite number of a format of 16 bits or fewer."""
    fmt = FORMATS[name]
    values = np.unique(fmt.decode(fmt.all_bits()))
    return values[np.isfinite(values)]
