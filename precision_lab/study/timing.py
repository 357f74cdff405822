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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precision_lab.devices import CPU, Device
from precision_lab.exceptions import UsageError
from precision_lab.formats import FloatFormat
from precision_lab.implementations.base import Implementation
from precision_lab.results import Failure, Timing
from precision_lab.running.case import case_of
from precision_lab.running.placement import Survivor, failure_of, require_capability
from precision_lab.running.runner import call, leaf_tensors
from precision_lab.running.tensors import to_tensor, torch_dtype
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.system.progress import Progress

DIRECTIONS = ("forward", "backward")
BOTH = "forward+backward"
SEED = 1913
# On a GPU: 256 MiB of a 16-bit format, and sets of inputs that take turns.
DEVICE_ELEMENTS = 2**27
DEVICE_SETS = 2
DEVICE_BYTES = 2**26  # of a tensor at least: with less, a second-level cache would be measured


@dataclass(frozen=True)
class _Contender:
    """Something to time: `work()` runs it once; `first_seconds` is its first call, compilation included."""

    implementation: Implementation | None  # None: a baseline
    direction: str
    work: Callable[[], Any]
    first_seconds: float


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
        for together in _groups(group, device):
            timings += survivor.attempt(
                partial(_time_together, together, fmt, n, rounds, device, starting),
                partial(_all_failed, together, fmt, n, device),
            )
    report("timing", total, total)
    return timings


def _groups(implementations: Sequence[Implementation], device: Device) -> list[list[Implementation]]:
    """Those whose tensors are held, and which take turns, together."""
    if device.is_accelerator:
        return [[i] for i in implementations]
    return [list(implementations)] if implementations else []


def _time_together(
    implementations: Sequence[Implementation],
    fmt: FloatFormat,
    n: int,
    rounds: int,
    device: Device,
    starting: Callable[[], None],
) -> list[Timing]:
    """Timings of implementations that take turns; on a GPU with fewer elements where memory does not do."""
    least = min(n, DEVICE_BYTES * 8 // fmt.bits)
    while True:
        timings = _attempt(implementations, fmt, n, rounds, device, starting)
        if device.is_accelerator:
            gc.collect()  # a graph and what it keeps may be a cycle
            device.release_memory()
        short = any(t.failure is not None and t.failure.kind == "out_of_memory" for t in timings)
        if not (device.is_accelerator and short and n > least):
            return timings
        n, starting = max(n // 2, least), lambda: None


def _attempt(
    implementations: Sequence[Implementation],
    fmt: FloatFormat,
    n: int,
    rounds: int,
    device: Device,
    starting: Callable[[], None],
) -> list[Timing]:
    timings: list[Timing] = []
    try:
        contenders = _baselines(fmt, n, device)
    except torch.OutOfMemoryError as error:
        return _all_failed(implementations, fmt, n, device, _failure("torch's SiLU", n, error))
    for implementation in implementations:
        starting()
        made, failures = _prepare(implementation, fmt, n, device)
        contenders += made
        timings += [
            _failed(implementation, fmt, direction, n, failure) for direction, failure in failures.items()
        ]
    return timings + _measure(contenders, fmt, n, rounds, device)


def _directions(device: Device) -> tuple[str, ...]:
    return (*DIRECTIONS, BOTH) if device.is_accelerator else DIRECTIONS


def _all_failed(
    implementations: Sequence[Implementation], fmt: FloatFormat, n: int, device: Device, failure: Failure
) -> list[Timing]:
    return [
        _failed(i, fmt, direction, n, failure) for i in implementations for direction in _directions(device)
    ]


def _failure(subject: Implementation | str, n: int, error: Exception) -> Failure:
    """As `devices.failure_of`, with the number of elements."""
    return failure_of(subject, error, str(error), size=f"{n} elements: ")


def _that_fit(device: Device) -> int:
    """Elements with which a dozen temporaries of four bytes, and the sets of inputs, fit in free memory."""
    known = device.free_bytes()
    free = math.inf if known is None else known
    n = DEVICE_ELEMENTS
    while n > 2**16 and 4 * (12 + 4 * DEVICE_SETS) * n > free:
        n //= 2
    return n


def _inputs(fmt: FloatFormat, n: int, device: Device, number: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normal x and dy; the same for the same number."""
    if device.is_accelerator:
        maker = torch.Generator(device.torch).manual_seed(SEED + number)
        dtype = torch_dtype(fmt)
        x, grad = (torch.randn(n, generator=maker, device=device.torch).to(dtype) for _ in range(2))
        return x, grad
    generator = np.random.Generator(np.random.PCG64(SEED + number))
    x, grad = (to_tensor(fmt.round(generator.standard_normal(n)), fmt) for _ in range(2))
    return x, grad


def _in_turn(works: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """Calls one after the other, a call each, so that nothing stays in a cache."""
    turns = itertools.cycle(works)
    return lambda: next(turns)()


def _baselines(fmt: FloatFormat, n: int, device: Device) -> list[_Contender]:
    """A plain copy, and torch's SiLU: what every ratio refers to."""
    sets = [_inputs(fmt, n, device, k) for k in range(DEVICE_SETS if device.is_accelerator else 1)]
    copies = [partial(torch.empty_like(x).copy_, x) for x, _ in sets]

    def work(x: Tensor, grad: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        leaf = x.clone().requires_grad_()
        y = torch.nn.functional.silu(leaf)

        def forward() -> Tensor:
            with torch.no_grad():
                return torch.nn.functional.silu(x)

        def backward() -> Any:
            return torch.autograd.grad(y, leaf, grad, retain_graph=True)

        def both() -> Any:
            return torch.autograd.grad(torch.nn.functional.silu(leaf), leaf, grad)

        return forward, backward, both

    forward, backward, both = zip(*(work(*given) for given in sets), strict=True)
    found = [
        _Contender(None, "copy", _in_turn(copies) if device.is_accelerator else sets[0][0].clone, 0.0),
        _Contender(None, "forward", _in_turn(forward), 0.0),
        _Contender(None, "backward", _in_turn(backward), 0.0),
    ]
    if device.is_accelerator:
        found.append(_Contender(None, BOTH, _in_turn(both), 0.0))
    for contender in found:
        contender.work()
    return found


def _prepare(
    implementation: Implementation, fmt: FloatFormat, n: int, device: Device
) -> tuple[list[_Contender], dict[str, Failure]]:
    """Contenders of one implementation, each called once already."""
    made: list[_Contender] = []
    directions = _directions(device)
    differentiable = implementation.outputs is None or len(implementation.outputs) > 1
    try:
        require_capability(implementation)
        leaves = leaf_tensors(case_of(implementation, fmt))
        tracked = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
        sets = [_inputs(fmt, n, device, k) for k in range(DEVICE_SETS if device.is_accelerator else 1)]
        points = [x.clone().requires_grad_() for x, _ in sets]

        def forward(x: Tensor) -> Tensor:
            with torch.no_grad():
                return call(implementation, x, leaves)

        work = _in_turn([partial(forward, x) for x, _ in sets])
        made.append(_Contender(implementation, "forward", work, device.seconds(work)))
        if not differentiable:
            return made, {}

        def gradient(y: Tensor, point: Tensor, grad: Tensor, keep: bool) -> Any:
            sources = [point, *tracked.values()]
            return torch.autograd.grad(y, sources, grad, retain_graph=keep, allow_unused=True)

        def both(point: Tensor, grad: Tensor) -> Any:
            return gradient(call(implementation, point, tracked), point, grad, False)

        start = time.perf_counter()
        results = [call(implementation, point, tracked) for point in points]
        work = _in_turn(
            [partial(gradient, y, p, g, True) for y, p, (_, g) in zip(results, points, sets, strict=True)]
        )
        work()
        made.append(_Contender(implementation, "backward", work, time.perf_counter() - start))
        if device.is_accelerator:
            work = _in_turn([partial(both, p, g) for p, (_, g) in zip(points, sets, strict=True)])
            work()
            made.append(_Contender(implementation, BOTH, work, 0.0))
    except Exception as error:
        failure = _failure(implementation, n, error)
    else:
        return made, {}
    return made, dict.fromkeys(directions[len(made) :], failure)


def _measure(
    contenders: Sequence[_Contender], fmt: FloatFormat, n: int, rounds: int, device: Device
) -> list[Timing]:
    """Timings of what was prepared; a contender that fails now has a row that says so, the others go on."""
    seconds = np.full((rounds, len(contenders)), np.nan)
    failures: dict[int, Failure] = {}
    for round_ in range(rounds):
        for k, contender in enumerate(contenders):
            if k in failures:
                continue
            try:
                seconds[round_, k] = device.seconds(contender.work)
            except Exception as error:
                failures[k] = _failure(contender.implementation or "torch's SiLU", n, error)
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
            timings.append(_failed(implementation, fmt, direction, n, failure))
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


def _failed(
    implementation: Implementation, fmt: FloatFormat, direction: str, n: int, failure: Failure
) -> Timing:
    nan = float("nan")
    return Timing(
        function=implementation.function.name,
        implementation=implementation.name,
        execution=implementation.execution.name,
        fmt=fmt.name,
        direction=direction,
        n=n,
        repeats=0,
        time_ns=nan,
        time_ns_low=nan,
        time_ns_high=nan,
        effective_gb_per_s=nan,
        ratio_to_silu=nan,
        ratio_to_copy=nan,
        failure=failure,
    )
