"""Input sets: every pattern, stratified per binade, directed cases; and the regions they fall in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.oracle.plain_roots import edges_of, roots_of

Float64 = NDArray[np.float64]

EPS = 1e-6  # the clamp of published listings; their eps zone is (-EPS, 0), EPS as the format has it
NEAR_ZERO = 0.0625
FAR_TAIL = -16.0  # e^-16 = 1.1e-7: below half an ulp of fp32 relative to 1
ROOT_WIDTH = 0.02
EDGE_REACH = 4  # numbers of a format on each side of an edge that are its region
PER_BINADE = 32
SEED = 2411_13010

REGIONS = (
    "special",
    "zero",
    "subnormal_input",
    "eps_zone",
    "edge",
    "root_forward",
    "root_gradient",
    "near_zero_negative",
    "far_tail",
    "rest_negative",
    "positive",
)


@dataclass(frozen=True)
class DirectedCase:
    """An input chosen for a reason."""

    bits: int
    reason: str


def exhaustive(fmt: FloatFormat) -> NDArray[Any]:
    """Every bit pattern of an 8- or 16-bit format.

    Raises:
        ValueError: a wider format; ask for "stratified".
    """
    if fmt.bits > 16:
        raise UsageError(
            f"inputs='exhaustive' holds 2^{fmt.bits} patterns of {fmt.name}; ask for 'stratified'"
        )
    return fmt.all_bits()


def directed(
    fmt: FloatFormat, function: Activation, params: Mapping[str, float] | None = None
) -> list[DirectedCase]:
    """Inputs at which kernels break: edges of the format, the clamp, the roots, overflow."""
    values = function.check_params(params)
    cases: dict[int, str] = {}

    def add(points: Iterable[float], reason: str, reach: int = 0) -> None:
        for point in points:
            nearest = fmt.round(np.array([point]))
            if not np.isfinite(nearest[0]):
                continue
            around = int(fmt.ordinal(nearest)[0]) + np.arange(-reach, reach + 1)
            inside = around[np.abs(around) <= fmt.max_ordinal]
            for bits in fmt.encode(fmt.from_ordinal(inside)).tolist():
                cases.setdefault(int(bits), reason)

    cases[0] = "+0"
    if fmt.signed:
        cases[fmt.sign_mask] = "-0"
    if fmt.has_infinity:
        for sign in (0, fmt.sign_mask):
            cases[int(fmt.encode(np.array([np.inf]))[0]) | sign] = "infinity"
    if fmt.nan_code is not None:
        cases[fmt.nan_code] = "NaN"
    for unit in (-1.0, 1.0):
        add([unit * fmt.min_subnormal], "smallest subnormals", 2)
        add([unit * fmt.min_normal], "edge of the subnormals", 2)
        add([unit * fmt.max_finite], "largest numbers", 2)
        add([unit * 2.0**e for e in range(fmt.emin, fmt.emax + 1)], "edge of a binade", 1)
        add([unit * 1.0], "one and its neighbours", 3)
        add([unit * EPS], "the clamp's eps and its neighbours", 3)
    for output in ("forward", "grad_x"):
        add(roots_of(function, output, values), f"around the root of {output}", 8)
    add(edges_of(function, values), "an edge of the formula", 4)
    add(_overflow_thresholds(fmt, function, values), "where the result overflows", 4)
    return [DirectedCase(bits, reason) for bits, reason in sorted(cases.items())]


def _overflow_thresholds(fmt: FloatFormat, function: Activation, params: Mapping[str, float]) -> list[float]:
    """|x| at which c·x^k reaches the largest number, for every polynomial term's coefficient c."""
    thresholds = []
    if not function.has_terms("forward"):
        from precision_lab.oracle.roots import reaches

        bound = (function.bound_expression(output, params) for output in ("forward", "grad_x"))
        return [x for e in bound for x in reaches(e, fmt.max_finite)]
    for output in ("forward", "grad_x"):
        for side in ("negative", "positive"):
            for term in function.terms(output, side):
                power = {"x": 1, "x^2": 2, "x^3": 3}.get(term.basis)
                size = abs(float(term.coefficient.at(params)))
                if power and size:
                    root = (fmt.max_finite / size) ** (1 / power)
                    thresholds += [root, -root]
                if power == 2:  # x·x alone, before the coefficient brings it back
                    root = fmt.max_finite**0.5
                    thresholds += [root, -root]
    return thresholds


def stratified(
    fmt: FloatFormat,
    function: Activation,
    params: Mapping[str, float] | None = None,
    *,
    per_binade: int = PER_BINADE,
) -> NDArray[Any]:
    """Bits of `per_binade` inputs in every binade of both signs, and all directed cases.

    Half of them evenly spaced, half seeded at random; the subnormals count as one binade
    per leading bit. The same on every machine.

    Raises:
        ValueError: per_binade < 1.
    """
    if per_binade < 1:
        raise UsageError(f"per_binade={per_binade!r}: at least one input per binade")
    generator = np.random.Generator(np.random.PCG64(SEED))
    edges = [1 << k for k in range(fmt.fraction_bits)]  # subnormal binades, as ordinals
    biased = np.arange(1, fmt.emax - fmt.emin + 2, dtype=object) << fmt.fraction_bits
    edges += [int(edge) for edge in biased] + [fmt.max_ordinal + 1]
    chosen: list[int] = []
    for lo, hi in pairwise(edges):
        size = min(per_binade, hi - lo)
        even = [lo + (hi - lo) * k // size for k in range(size)]
        chosen += even[::2] if size == per_binade and size > 1 else even
        if size == per_binade and size > 1:
            chosen += [lo + int(offset) for offset in generator.integers(0, hi - lo, size - len(even[::2]))]
    magnitudes = np.array(sorted(set(chosen)), np.int64)
    ordinals = np.concatenate([-magnitudes[::-1], magnitudes])
    bits = fmt.encode(fmt.from_ordinal(ordinals))
    extra = np.array([case.bits for case in directed(fmt, function, params)], fmt.bits_dtype)
    return np.unique(np.concatenate([bits, extra]))


def input_set(
    spec: str | NDArray[Any],
    fmt: FloatFormat,
    function: Activation,
    params: Mapping[str, float] | None,
) -> tuple[str, NDArray[Any]]:
    """Name and bits of the inputs of `spec`.

    Args:
        spec: "exhaustive", "stratified", "stratified:N" (N per binade), or values as an array.

    Raises:
        ValueError: an unknown spec, an N that is no positive integer, or array values that the
            format does not have.
    """
    if not isinstance(spec, str):
        values = np.asarray(spec, np.float64).ravel()
        if values.size == 0:
            raise UsageError("inputs is an empty array: there is nothing to measure")
        return "array", fmt.encode(values)
    kind, _, count = spec.partition(":")
    if kind == "exhaustive" and not count:
        return spec, exhaustive(fmt)
    if kind == "stratified":
        if count and not count.isdecimal():
            raise UsageError(f"inputs={spec!r}: N in 'stratified:N' must be a positive whole number")
        return spec, stratified(fmt, function, params, per_binade=int(count or PER_BINADE))
    raise unknown_name("inputs", spec, ("exhaustive", "stratified", "stratified:N"))


def regions(
    x: Float64, fmt: FloatFormat, function: Activation, params: Mapping[str, float] | None
) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """Region names, and for each input the index of the one region it lies in.

    `root_forward` and `root_gradient` are within ±2 % of a root of the function and of its
    x-gradient for these parameters.
    """
    values = function.check_params(params)
    finite = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        tests = {
            "special": ~finite,
            "zero": x == 0,
            "subnormal_input": np.abs(x) < fmt.min_normal,
            "eps_zone": (x > -fmt.round(np.array([EPS]))[0]) & (x < 0),
            "edge": _beside(x, edges_of(function, values), fmt),
            "root_forward": _near(x, roots_of(function, "forward", values)),
            "root_gradient": _near(x, roots_of(function, "grad_x", values)),
            "near_zero_negative": (x >= -NEAR_ZERO) & (x < 0),
            "far_tail": x < FAR_TAIL,
            "rest_negative": x < 0,
            "positive": x > 0,
        }
    return REGIONS, np.select(
        [tests[name] for name in REGIONS], np.arange(len(REGIONS)).astype(np.int8), default=-1
    ).astype(np.int8)


def region_thresholds(
    fmt: FloatFormat, function: Activation, params: Mapping[str, float] | None
) -> tuple[float, ...]:
    """Every |x| at which `regions` may change, other than 0 and infinity."""
    values = function.check_params(params)
    roots = roots_of(function, "forward", values) + roots_of(function, "grad_x", values)
    around = [abs(root) * (1 + side * ROOT_WIDTH) for root in roots for side in (-1, 1)]
    around += [abs(point) for edge in edges_of(function, values) for point in _neighbours(edge, fmt)]
    return (fmt.min_normal, float(fmt.round(np.array([EPS]))[0]), NEAR_ZERO, -FAR_TAIL, *around)


def _near(x: Float64, roots: Iterable[float]) -> NDArray[np.bool_]:
    inside = np.zeros(x.shape, bool)
    for root in roots:
        inside |= np.abs(x - root) <= ROOT_WIDTH * abs(root)
    return inside


def _neighbours(edge: float, fmt: FloatFormat) -> tuple[float, float]:
    """The numbers of a format `EDGE_REACH` steps below and above an edge."""
    nearest = fmt.round(np.array([edge]))
    if not np.isfinite(nearest[0]):
        return edge, edge
    ordinal = int(fmt.ordinal(nearest)[0])
    ends = np.clip(np.array([ordinal - EDGE_REACH, ordinal + EDGE_REACH]), -fmt.max_ordinal, fmt.max_ordinal)
    low, high = fmt.from_ordinal(ends)
    return float(low), float(high)


def _beside(x: Float64, edges: Iterable[float], fmt: FloatFormat) -> NDArray[np.bool_]:
    inside = np.zeros(x.shape, bool)
    for edge in edges:
        low, high = _neighbours(edge, fmt)
        inside |= (x >= low) & (x <= high)
    return inside
