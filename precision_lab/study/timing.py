"""Time per element of each implementation, with its spread, and ratios within one run.

On a GPU times are CUDA events' around each call, tensors are larger than its second-level cache and
taken from several sets in turn, and bandwidth is set against that of a copy in the same rounds.

Machines are shared and clocks move, so contenders of one dtype take turns: every round
runs each of them once, and ratios compare medians of the same rounds. A bare time says
little; the ratios to SiLU and to a copy are what carries over. On a GPU, whose memory does not
hold the tensors of all contenders, each implementation takes turns with SiLU and the copy alone.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from precision_lab.devices import CPU, Device
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import FloatFormat
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.guard import guarded
from precision_lab.results import Failure, Timing
from precision_lab.running.placement import Survivor
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.study.contenders import (
    BOTH,
    DEVICE_SETS,
    Contender,
    baselines,
    directions_on,
    prepare,
    timed_failure,
)
from precision_lab.system.progress import Progress

# On a GPU: 256 MiB of a 16-bit format, and sets of inputs that take turns.
DEVICE_ELEMENTS = 2**27
DEVICE_BYTES = 2**26  # of a tensor at least: with less, a second-level cache would be measured


@dataclass(frozen=True)
class Turns:
    """How contenders take turns: tensors of n elements of a format, on a device, so many rounds."""

    fmt: FloatFormat
    n: int
    rounds: int
    device: Device


@compiler_settings_kept()
def time_implementations(
    implementations: Sequence[Implementation],
    formats: Sequence[FloatFormat],
    *,
    n: int | None = None,
    rounds: int = 9,
    device: Device = CPU,
    progress: Progress | None = None,
    lost: str = "",
) -> list[Timing]:
    """Forward and backward time of each implementation in each of its formats.

    Backward is the gradient of x and of every parameter, given dy, without the forward; on a GPU
    both together are timed too. What fails has a row with the reason, a kernel that destroys the GPU's
    context included, and so has then what comes after it.

    Args:
        implementations: to be run on `device`.
        n: elements; standard normal inputs, initial parameters. By default 2^20, on a GPU 2^27, or
            as many as its memory takes. An implementation that needs more memory gets fewer, down to
            tensors of 64 MiB.
        rounds: timed calls of each contender, after one untimed.
        progress: called with ("timing", done, total).
        lost: what destroyed the device's context, so that nothing can be timed on it.

    Raises:
        ValueError: n or rounds below 1.
    """
    if (n is not None and n < 1) or rounds < 1:
        raise UsageError(f"n={n!r}, rounds={rounds!r}: both must be at least 1")
    survivor = Survivor(lost)
    if n is None:
        n = 2**20 if not device.is_accelerator else DEVICE_ELEMENTS if lost else _that_fit(device)
    report = progress or (lambda stage, done, total: None)
    timings: list[Timing] = []
    chosen = [[i for i in implementations if fmt in i.formats] for fmt in formats]
    total = sum(map(len, chosen))
    started = itertools.count()

    def starting() -> None:
        report("timing", next(started), total)

    for fmt, group in zip(formats, chosen, strict=True):
        turns = Turns(fmt, n, rounds, device)
        for together in _groups(group, device):
            timings += survivor.attempt(
                partial(_time_together, together, turns, starting), partial(_all_failed, together, turns)
            )
    report("timing", total, total)
    return timings


def _groups(implementations: Sequence[Implementation], device: Device) -> list[list[Implementation]]:
    """Those whose tensors are held, and which take turns, together."""
    if device.is_accelerator:
        return [[i] for i in implementations]
    return [list(implementations)] if implementations else []


def _time_together(
    implementations: Sequence[Implementation], turns: Turns, starting: Callable[[], None]
) -> list[Timing]:
    """Timings of implementations that take turns; on a GPU with fewer elements where memory does not do."""
    device = turns.device
    least = min(turns.n, DEVICE_BYTES * 8 // turns.fmt.bits)
    while True:
        timings = _attempt(implementations, turns, starting)
        if device.is_accelerator:
            gc.collect()  # a graph and what it keeps may be a cycle
            device.release_memory()
        short = any(t.failure is not None and t.failure.kind == "out_of_memory" for t in timings)
        if not (device.is_accelerator and short and turns.n > least):
            return timings
        turns, starting = replace(turns, n=max(turns.n // 2, least)), lambda: None


def _attempt(
    implementations: Sequence[Implementation], turns: Turns, starting: Callable[[], None]
) -> list[Timing]:
    timings: list[Timing] = []
    try:
        contenders = baselines(turns.fmt, turns.n, turns.device)
    except torch.OutOfMemoryError as error:
        return _all_failed(implementations, turns, timed_failure("torch's SiLU", turns.n, error))
    for implementation in implementations:
        starting()
        made, failures = prepare(implementation, turns.fmt, turns.n, turns.device)
        contenders += made
        timings += [
            _failed(implementation, turns, direction, failure) for direction, failure in failures.items()
        ]
    return timings + _measure(contenders, turns)


def _all_failed(implementations: Sequence[Implementation], turns: Turns, failure: Failure) -> list[Timing]:
    directions = directions_on(turns.device)
    return [_failed(i, turns, direction, failure) for i in implementations for direction in directions]


def _that_fit(device: Device) -> int:
    """Elements with which a dozen temporaries of four bytes, and the sets of inputs, fit in free memory."""
    known = device.free_bytes()
    free = math.inf if known is None else known
    n = DEVICE_ELEMENTS
    while n > 2**16 and 4 * (12 + 4 * DEVICE_SETS) * n > free:
        n //= 2
    return n


def _measure(contenders: Sequence[Contender], turns: Turns) -> list[Timing]:
    """Timings of what was prepared; a contender that fails now has a row that says so, the others go on."""
    fmt, n, rounds, device = turns.fmt, turns.n, turns.rounds, turns.device
    seconds = np.full((rounds, len(contenders)), np.nan)
    failures: dict[int, Failure] = {}
    for round_ in range(rounds):
        for k, contender in enumerate(contenders):
            if k in failures:
                continue
            try:
                seconds[round_, k] = guarded(partial(device.seconds, contender.work))
            except (KernelError, RuntimeError) as error:
                failures[k] = timed_failure(contender.implementation or "torch's SiLU", n, error)
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75), axis=0) / n * 1e9
    base = {c.direction: k for k, c in enumerate(contenders) if c.implementation is None}
    copy = float(median[base["copy"]])
    size = fmt.bits // 8
    copied = 2 * size / copy
    timings = []
    for k, contender in enumerate(contenders):
        implementation, direction = contender.implementation, contender.direction
        if implementation is None:
            continue
        # Nothing can be said without what the ratios refer to.
        failure = next((failures[i] for i in (k, base["copy"], base[direction]) if i in failures), None)
        if failure is not None:
            timings.append(_failed(implementation, turns, direction, failure))
            continue
        moved = _bytes_moved(implementation, fmt, direction)
        timings.append(
            Timing(
                function=implementation.function.name,
                implementation=implementation.name,
                execution=implementation.execution.name,
                fmt=fmt.name,
                direction=direction,
                n=n,
                repeats=rounds,
                time_ns=float(median[k]),
                time_ns_low=float(low[k]),
                time_ns_high=float(high[k]),
                effective_gb_per_s=moved / float(median[k]),
                ratio_to_silu=float(median[k] / median[base[direction]]),
                ratio_to_copy=float(median[k]) / copy,
                compile_seconds=(
                    round(contender.first_seconds, 3) if implementation.execution.compiled else None
                ),
                bandwidth_share=moved / float(median[k]) / copied if device.is_accelerator else None,
            )
        )
    return timings


def _bytes_moved(implementation: Implementation, fmt: FloatFormat, direction: str) -> int:
    """Per element, at least: x read and y written; x and dy read and dx written; or both."""
    size = fmt.bits // 8
    stored = implementation.output_format(fmt, "forward").bits // 8
    parts = {"forward": size + stored, "backward": 2 * size + stored}
    return sum(parts.values()) if direction == BOTH else parts[direction]


def _failed(implementation: Implementation, turns: Turns, direction: str, failure: Failure) -> Timing:
    nan = float("nan")
    return Timing(
        function=implementation.function.name,
        implementation=implementation.name,
        execution=implementation.execution.name,
        fmt=turns.fmt.name,
        direction=direction,
        n=turns.n,
        repeats=0,
        time_ns=nan,
        time_ns_low=nan,
        time_ns_high=nan,
        effective_gb_per_s=nan,
        ratio_to_silu=nan,
        ratio_to_copy=nan,
        failure=failure,
    )
