"""Hypothesis at work: the worst input in few evaluations, and laws under changing parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.devices import CPU, Device, get_device
from precision_lab.exceptions import KernelError, UsageError, door
from precision_lab.formats import FloatFormat, kernel_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.adapters.target import find, handed_over
from precision_lab.inputs import strategies
from precision_lab.inputs.strategies import (
    COMMON_SETTINGS,
    Phase,
    given,
    integers,
    settings,
    target,
)
from precision_lab.measuring.every_input import standards
from precision_lab.oracle.plain_roots import roots_of
from precision_lab.results import Failure
from precision_lab.running.case import case_of
from precision_lab.running.own_process import on
from precision_lab.running.placement import on_device
from precision_lab.running.runner import run
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.scoring import errors as metrics
from precision_lab.verifying.laws import LAWS, Broken, check_laws

EVALUATIONS = 4096
BLOCK = 64  # inputs per call of the kernel
_SCAN = 3  # of this many parts of what is drawn, one goes into an even grid
_CLIMB = 4  # of this many parts of the evaluations, one goes into climbing from the best found


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


@door
@compiler_settings_kept()
def search(
    kernel: Any,
    function: str | Activation,
    *,
    fmt: str | FloatFormat = "bf16",
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    evaluations: int = EVALUATIONS,
    device: str | Device = CPU,
) -> Search:
    """Looks for a large error in a fixed number of evaluations, the same ones every time.

    An even grid comes first; then Hypothesis draws blocks of neighbouring inputs about its centres and
    climbs the error; what is left of the evaluations goes into the neighbourhoods of the worst inputs found.

    Args:
        kernel: as `measure`.
        evaluations: at least `BLOCK`.
        device: as `measure`.

    Raises:
        ValueError: unknown names, or too few evaluations.
        KernelError: the kernel fails.
    """
    if evaluations < BLOCK:
        raise UsageError(f"evaluations={evaluations!r}: at least {BLOCK}, which is one block")
    definition, source, place = get_function(function), kernel_format(fmt), get_device(device)
    definition.check_output(output)
    if place.own_process:
        kernel = handed_over(kernel, place.name)
    return on(place, _searched, kernel, definition, source, (output, params, evaluations, place))


def _searched(
    kernel: Any, definition: Activation, source: FloatFormat,
    asked: tuple[str, Mapping[str, float] | None, int, Device],
) -> Search:  # fmt: skip
    output, params, evaluations, place = asked
    if isinstance(kernel, str):
        kernel = find(kernel, definition, (source,))
    case = case_of(on_device(resolve(kernel, definition, source), place), source, params, (output,))
    standard = standards(case, (output,))[0]
    effective = case.effective
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
        got = run(case, x)[output]
        if isinstance(got, Failure):
            raise KernelError(got.kind, got.message)
        exact = standard.reference(x)
        sizes = np.nan_to_num(np.abs(metrics.ulp_error(np.asarray(got, np.float64), exact)), nan=0.0)
        sizes = np.maximum(sizes[:n], sizes[full:])
        found.update(zip(fresh, sizes.tolist(), strict=True))
        return float(sizes.max())

    drawn = evaluations - evaluations // _CLIMB
    centres = strategies.inputs(source, definition, effective, output)

    @settings(max_examples=10 * drawn // BLOCK, phases=[Phase.generate, Phase.target], **COMMON_SETTINGS)
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
    from precision_lab.inputs import sets as input_sets

    roots = [*roots_of(function, "forward", params), *roots_of(function, "grad_x", params)]
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


__all__ = ["LAWS", "Broken", "Search", "check_laws", "search"]
