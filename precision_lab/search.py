"""Hypothesis at work: the worst input in few evaluations, and laws under changing parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab import metrics, strategies
from precision_lab.bounds import Bound
from precision_lab.exceptions import KernelError, UsageError, unknown_name
from precision_lab.formats import FloatFormat, get_format, kernel_format
from precision_lab.functions import get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.compiled import compiler_settings_kept
from precision_lab.implementations.runner import effective_parameters, run
from precision_lab.measure import measure_all
from precision_lab.oracle import reference
from precision_lab.results import Failure, Fault, Measurement
from precision_lab.strategies import HealthCheck, Phase, SearchStrategy, given, integers, settings, target
from precision_lab.verdict import judge

EVALUATIONS = 4096
BLOCK = 64  # inputs per call of the kernel
_SCAN = 3  # of this many parts of what is drawn, one goes into an even grid
_CLIMB = 4  # of this many parts of the evaluations, one goes into climbing from the best found
_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}


@dataclass(frozen=True)
class Search:
    """The largest error found.

    Attributes:
        max_ulp: its size, in ulps.
        x, bits: the input it was found at; None and "" where every result was exact.
        evaluations: inputs that the kernel was tried at.
    """

    max_ulp: float
    x: float | None
    bits: str
    evaluations: int


class _Spent(Exception):
    """All evaluations are used up."""


@compiler_settings_kept()
def search(
    kernel: Any,
    function: str,
    *,
    fmt: str = "bf16",
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    evaluations: int = EVALUATIONS,
) -> Search:
    """Looks for a large error in a fixed number of evaluations, the same ones every time.

    An even grid comes first; then Hypothesis draws blocks of neighbouring inputs about its centres and
    climbs the error; what is left of the evaluations goes into the neighbourhoods of the worst inputs found.

    Args:
        kernel: as `measure`.
        evaluations: at least `BLOCK`.

    Raises:
        ValueError: unknown names, or too few evaluations.
        KernelError: the kernel fails.
    """
    if evaluations < BLOCK:
        raise UsageError(f"evaluations={evaluations!r}: at least {BLOCK}, which is one block")
    definition, source = get_function(function), kernel_format(fmt)
    definition.check_output(output)
    implementation = resolve(kernel, definition.name, source.name)
    asked = definition.check_params(params)
    effective = effective_parameters(implementation, asked, source.name)
    out = get_format(implementation.output_format(source.name, output))
    found: dict[int, float] = {}  # error by ordinal

    def errors(ordinals: NDArray[np.int64]) -> float:
        """The largest error at inputs not tried before, as far as the evaluations go."""
        fresh = [
            k for k in dict.fromkeys(ordinals.tolist()) if abs(k) <= source.max_ordinal and k not in found
        ]
        fresh = fresh[: evaluations - len(found)]
        if not fresh:
            if len(found) >= evaluations:
                raise _Spent
            return max((found.get(int(k), 0.0) for k in ordinals), default=0.0)
        # Twice: once where vector lanes compute them, once with the last ones in what lanes leave over.
        n, full = len(fresh), -(-len(fresh) // BLOCK) * BLOCK
        places = np.concatenate([np.arange(full) % n, np.arange(n)])
        x = source.from_ordinal(np.array(fresh))[places]
        got = run(implementation, x, source.name, asked, (output,))[output]
        if isinstance(got, Failure):
            raise KernelError(got.kind, got.message)
        exact = reference(definition, output, effective, x, out, saturating=implementation.saturating)
        sizes = np.nan_to_num(np.abs(metrics.ulp_error(np.asarray(got, np.float64), exact)), nan=0.0)
        sizes = np.maximum(sizes[:n], sizes[full:])
        found.update(zip(fresh, sizes.tolist(), strict=True))
        return float(sizes.max())

    drawn = evaluations - evaluations // _CLIMB
    centres = strategies.inputs(source, definition.name, effective, output)

    @settings(max_examples=10 * drawn // BLOCK, phases=[Phase.generate, Phase.target], **_COMMON)
    @given(centres, integers(0, source.fraction_bits + 4))
    def explore(x: float, spread: int) -> None:
        if len(found) >= drawn:
            return
        centre = int(source.ordinal(np.array([x]))[0])
        worst = errors(centre + (np.arange(BLOCK) - BLOCK // 2) * (1 << max(0, spread - 4)))
        target(math.log2(1 + worst))

    try:
        errors(_edges(source.max_ordinal, source, definition, effective)[: drawn // 2])
        errors(_grid(source, drawn // _SCAN))
        explore()
        _climb(found, errors, source.max_ordinal)
    except _Spent:
        pass
    if not found:
        return Search(0.0, None, "", 0)
    best = max(found, key=lambda k: (found[k], -abs(k)))
    x = source.from_ordinal(np.array([best]))
    bits = f"0x{int(source.encode(x)[0]):0{source.bits // 4}x}"
    return Search(found[best], float(x[0]) if found[best] else None, bits if found[best] else "", len(found))


def _edges(limit: int, fmt: Any, function: Any, params: Mapping[str, float]) -> NDArray[np.int64]:
    """Neighbours of roots, of 0, of the clamp and of the format's ends: where most kernels are worst."""
    from precision_lab import inputs as input_sets

    roots = [*function.roots("forward", params), *function.roots("grad_x", params)]
    points = [*roots, -input_sets.EPS, -input_sets.NEAR_ZERO, 1.0, -1.0]
    centres = [int(k) for k in fmt.ordinal(fmt.round(np.array(points)))]
    near = [c + step for step in range(-24, 25) for c in (*centres, 0)]
    ends = [sign * (limit - step) for step in range(16) for sign in (1, -1)]
    return np.array([*near, *ends], np.int64)


def _grid(fmt: FloatFormat, n: int) -> NDArray[np.int64]:
    """n inputs, half of them even in value where exponentials are numbers, half even in bit patterns."""
    values = np.unique(fmt.ordinal(fmt.round(np.linspace(-128.0, 128.0, n // 2 + 1))))
    patterns = np.linspace(-fmt.max_ordinal, fmt.max_ordinal, n - n // 2).astype(np.int64)
    return np.concatenate([values.astype(np.int64), patterns])


def _climb(found: dict[int, float], errors: Callable[[NDArray[np.int64]], float], limit: int) -> None:
    """Spends what is left: up the slope from the worst input, then from the next one not near it."""
    near = [*range(1, 9), 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    steps = np.array([sign * step for step in near for sign in (1, -1)], np.int64)
    climbed: list[int] = []
    while True:
        ordered = sorted(found, key=lambda k: -found[k])
        seed = next((k for k in ordered if all(abs(k - top) > near[7] for top in climbed)), None)
        if seed is None:
            raise _Spent
        climbed.append(seed)
        while True:
            around = np.clip(seed + steps, -limit, limit)
            errors(around)
            best = max(around.tolist(), key=lambda k: found.get(k, 0.0))
            if found.get(best, 0.0) <= found[seed]:
                break
            seed = best
        climbed.append(seed)


# -- laws under changing parameters -------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A law that a kernel breaks, at the simplest parameters that Hypothesis found."""

    law: str
    params: dict[str, float]
    message: str
    fault: Fault | None = None


Law = Callable[[Sequence[Measurement], Bound], str | Fault | None]


def _first(faults: Iterator[Fault]) -> Fault | None:
    return next(faults, None)


def accuracy(measured: Sequence[Measurement], bound: Bound) -> Fault | None:
    """Every output, autograd's gradients among them, is within its bound of the exact value."""
    kinds = ("inaccurate", "flushes_subnormals", "undecided")
    return _first(f for m in measured for f in judge(m, bound) if f.kind in kinds)


def signs(measured: Sequence[Measurement], bound: Bound) -> Fault | None:
    """No result, and above all no gradient, has the wrong sign."""
    return _first(f for m in measured for f in judge(m, bound) if f.kind == "wrong_sign")


def special_values(measured: Sequence[Measurement], bound: Bound) -> Fault | None:
    """±0, ±inf and NaN give what the limits say, and no finite input an infinity or NaN of its own."""
    return _first(f for m in measured for f in judge(m, bound) if f.kind == "nonfinite")


def continuity(measured: Sequence[Measurement], bound: Bound) -> str | None:
    """What is continuous at 0 has no jump there."""
    for m in measured:
        if (
            m.failure is None
            and m.output in get_function(m.function).continuous
            and not m.jump_at_zero <= 4 * _ulp_at_zero(m)
        ):
            return f"{m.output} jumps by {m.jump_at_zero:.4g} across 0"
    return None


def _ulp_at_zero(m: Measurement) -> float:
    """An ulp of the exact value at 0; the smallest number where that is 0."""
    out = get_format(m.output_fmt)
    exact = reference(m.function, m.output, m.params, np.zeros(1), out)
    return float(exact.ulp[0])


def monotony(measured: Sequence[Measurement], bound: Bound) -> str | None:
    """Between neighbours, results move as the exact values do, where those move by more than rounding."""
    for m in measured:
        if m.failure is None and bound.max_ulp <= 1 and m.monotonicity_violations:
            return f"{m.output} moves against the exact values {m.monotonicity_violations} times"
    return None


def runs(measured: Sequence[Measurement], bound: Bound) -> str | None:
    """It gives every output for every legal parameter."""
    for m in measured:
        if m.failure is not None and m.failure.kind != "not_finite_parameters":
            return f"{m.output}: {m.failure.kind}: {m.failure.message}"
    return None


LAWS: dict[str, Law] = {
    "runs": runs,
    "accuracy": accuracy,
    "signs": signs,
    "special_values": special_values,
    "continuity": continuity,
    "monotony": monotony,
}


@compiler_settings_kept()
def check_laws(
    kernel: Any,
    function: str,
    *,
    fmt: str = "bf16",
    max_ulp: float = 1.0,
    laws: Sequence[str] = tuple(LAWS),
    max_examples: int = 25,
) -> list[Broken]:
    """The laws a kernel breaks for parameters that Hypothesis chooses: small, large, and about the roots.

    Each draw of parameters is measured on every input of an 8- or 16-bit format. Parameters that
    the kernel does not take stay as they are; a failure shrinks to the simplest parameters.

    Raises:
        ValueError: an unknown law, function or format; max_ulp below 0.5.
    """
    for law in laws:
        if law not in LAWS:
            raise unknown_name("law", law, LAWS)
    definition, bound = get_function(function), Bound(max_ulp)
    source = kernel_format(fmt)
    implementation = resolve(kernel, definition.name, source.name)
    given_ones = implementation.parameters
    fixed = definition.check_params()

    def taken(params: Mapping[str, float]) -> dict[str, float]:
        return {k: v if given_ones is None or k in given_ones else fixed[k] for k, v in params.items()}

    drawn = strategies.parameters(definition.name, fmt).map(taken)
    inputs = "exhaustive" if source.bits <= 16 else "stratified:4"
    memory: dict[tuple[float, ...], list[Measurement]] = {}  # every law is tried at the same parameters

    def measured(params: Mapping[str, float]) -> list[Measurement]:
        key = tuple(params.values())
        if key not in memory:
            outputs = implementation.measured_outputs()
            memory[key] = measure_all(implementation, outputs, fmt, params, inputs=inputs)
        return memory[key]

    broken = (_broken(name, measured, bound, drawn, max_examples) for name in laws)
    return [found for found in broken if found is not None]


def _broken(
    name: str,
    measured: Callable[[Mapping[str, float]], list[Measurement]],
    bound: Bound,
    drawn: SearchStrategy[dict[str, float]],
    max_examples: int,
) -> Broken | None:
    last: list[tuple[dict[str, float], str | Fault]] = []

    @settings(max_examples=max_examples, phases=[Phase.generate, Phase.shrink], **_COMMON)
    @given(drawn)
    def holds(params: dict[str, float]) -> None:
        found = LAWS[name](measured(params), bound)
        if found is not None:
            last.append((params, found))
            raise _Broken

    try:
        holds()
    except _Broken:
        params, found = last[-1]  # Hypothesis ends by running the simplest once more
        shown = ", ".join(f"{k}={v:g}" for k, v in params.items()) or "no parameters"
        text = f"{found.output}: {found.message}" if isinstance(found, Fault) else found
        fault = found if isinstance(found, Fault) else None
        return Broken(name, params, f"{name} with {shown}: {text}", fault)
    return None


class _Broken(AssertionError):
    """A law does not hold; Hypothesis shrinks to the simplest parameters for which it does not."""


__all__ = ["LAWS", "Broken", "Search", "check_laws", "search"]
