"""Time per element of each implementation, with its spread, and ratios within one run.

Machines are shared and clocks move, so contenders of one dtype take turns: every round
runs each of them once, and ratios compare medians of the same rounds. A bare time says
little; the ratios to SiLU and to a copy are what carries over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.runner import call, leaf_tensors, to_tensor
from precision_lab.results import Failure, Timing

Progress = Callable[[str, int, int], None]

DIRECTIONS = ("forward", "backward")
SEED = 1913


@dataclass(frozen=True)
class _Contender:
    """Something to time: `work()` runs it once; `first_seconds` is its first call, compilation included."""

    implementation: Implementation | None  # None: a baseline
    direction: str
    work: Callable[[], Any]
    first_seconds: float


def time_implementations(
    implementations: Sequence[Implementation],
    formats: Sequence[str],
    *,
    n: int = 2**20,
    rounds: int = 9,
    progress: Progress | None = None,
) -> list[Timing]:
    """Forward and backward time of each implementation in each of its formats.

    Backward is the gradient of x and of every parameter, given dy, without the forward.

    Args:
        n: elements; standard normal inputs, initial parameters.
        rounds: timed calls of each contender, after one untimed.
        progress: called with ("timing", done, total).

    Raises:
        ValueError: n or rounds below 1.
    """
    if n < 1 or rounds < 1:
        raise ValueError(f"n={n!r}, rounds={rounds!r}: both must be at least 1")
    report = progress or (lambda stage, done, total: None)
    timings: list[Timing] = []
    chosen = [[i for i in implementations if fmt in i.formats] for fmt in formats]
    total = sum(map(len, chosen))
    done = 0
    for fmt, group in zip(formats, chosen, strict=True):
        contenders = _baselines(fmt, n)
        for implementation in group:
            report("timing", done, total)
            made, failures = _prepare(implementation, fmt, n)
            contenders += made
            timings += [
                _failed(implementation, fmt, direction, n, failure) for direction, failure in failures.items()
            ]
            done += 1
        timings += _measure(contenders, fmt, n, rounds)
        report("timing", done, total)
    return timings


def _inputs(fmt: str, n: int) -> tuple[Tensor, Tensor]:
    generator = np.random.Generator(np.random.PCG64(SEED))
    target = get_format(fmt)
    x, grad = (to_tensor(target.round(generator.standard_normal(n)), target) for _ in range(2))
    return x, grad


def _baselines(fmt: str, n: int) -> list[_Contender]:
    """A plain copy, and torch's SiLU forward and backward: what every ratio refers to."""
    x, grad = _inputs(fmt, n)
    leaf = x.clone().requires_grad_()
    y = torch.nn.functional.silu(leaf)

    def forward() -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.silu(x)

    return [
        _Contender(None, "copy", x.clone, 0.0),
        _Contender(None, "forward", forward, 0.0),
        _Contender(None, "backward", lambda: torch.autograd.grad(y, leaf, grad, retain_graph=True), 0.0),
    ]


def _prepare(implementation: Implementation, fmt: str, n: int) -> tuple[list[_Contender], dict[str, Failure]]:
    """Contenders of one implementation, each called once already."""
    x, grad = _inputs(fmt, n)
    made: list[_Contender] = []
    try:
        leaves = leaf_tensors(implementation, get_function(implementation.function).check_params(), fmt)
        tracked = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
        point = x.clone().requires_grad_()

        def forward() -> Tensor:
            with torch.no_grad():
                return call(implementation, x, leaves)

        made.append(_Contender(implementation, "forward", forward, _seconds(forward)))
        start = time.perf_counter()
        y = call(implementation, point, tracked)
        sources = [point, *tracked.values()]

        def backward() -> Any:
            return torch.autograd.grad(y, sources, grad, retain_graph=True, allow_unused=True)

        backward()
        made.append(_Contender(implementation, "backward", backward, time.perf_counter() - start))
    except KernelError as error:
        failure = Failure(error.kind, str(error))
    except Exception as error:  # a stranger's kernel may raise anything
        failure = Failure("raised", f"{type(error).__name__}: {error}")
    else:
        return made, {}
    return made, dict.fromkeys(DIRECTIONS[len(made) :], failure)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _measure(contenders: Sequence[_Contender], fmt: str, n: int, rounds: int) -> list[Timing]:
    seconds = np.array([[_seconds(c.work) for c in contenders] for _ in range(rounds)])
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75), axis=0) / n * 1e9
    copy, silu = median[0], {"forward": median[1], "backward": median[2]}
    size = get_format(fmt).bits // 8
    timings = []
    for k, contender in enumerate(contenders):
        if contender.implementation is None:
            continue
        moved = (2 if contender.direction == "forward" else 3) * size
        compiled = contender.implementation.execution == "compiled"
        timings.append(
            Timing(
                function=contender.implementation.function,
                implementation=contender.implementation.name,
                execution=contender.implementation.execution,
                fmt=fmt,
                direction=contender.direction,
                n=n,
                repeats=rounds,
                time_ns=float(median[k]),
                time_ns_low=float(low[k]),
                time_ns_high=float(high[k]),
                effective_gb_per_s=moved / float(median[k]),
                ratio_to_silu=float(median[k] / silu[contender.direction]),
                ratio_to_copy=float(median[k] / copy),
                compile_seconds=round(contender.first_seconds, 3) if compiled else None,
            )
        )
    return timings


def _failed(implementation: Implementation, fmt: str, direction: str, n: int, failure: Failure) -> Timing:
    nan = float("nan")
    return Timing(
        function=implementation.function,
        implementation=implementation.name,
        execution=implementation.execution,
        fmt=fmt,
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
