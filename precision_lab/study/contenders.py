"""What is timed: calls of an implementation, forward and backward, and of what ratios refer to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precision_lab.devices import Device
from precision_lab.exceptions import KernelError
from precision_lab.formats import FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.guard import guarded
from precision_lab.results import Failure
from precision_lab.running.case import case_of
from precision_lab.running.placement import failure_of, require_capability
from precision_lab.running.runner import call, leaf_tensors
from precision_lab.running.tensors import to_tensor

DIRECTIONS = ("forward", "backward")
BOTH = "forward+backward"
SEED = 1913
DEVICE_SETS = 2  # of inputs that take turns on a GPU


@dataclass(frozen=True)
class Contender:
    """Something to time: `work()` runs it once; `first_seconds` is its first call, compilation included."""

    implementation: Implementation | None  # None: a baseline
    direction: str
    work: Callable[[], Any]
    first_seconds: float


def directions_on(device: Device) -> tuple[str, ...]:
    return (*DIRECTIONS, BOTH) if device.is_accelerator else DIRECTIONS


def timed_failure(subject: Implementation | str, n: int, error: Exception) -> Failure:
    """As `failure_of`, with the number of elements."""
    return failure_of(subject, error, size=f"{n} elements: ")


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


def baselines(fmt: FloatFormat, n: int, device: Device) -> list[Contender]:
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
        Contender(None, "copy", _in_turn(copies) if device.is_accelerator else sets[0][0].clone, 0.0),
        Contender(None, "forward", _in_turn(forward), 0.0),
        Contender(None, "backward", _in_turn(backward), 0.0),
    ]
    if device.is_accelerator:
        found.append(Contender(None, BOTH, _in_turn(both), 0.0))
    for contender in found:
        contender.work()
    return found


def prepare(
    implementation: Implementation, fmt: FloatFormat, n: int, device: Device
) -> tuple[list[Contender], dict[str, Failure]]:
    """Contenders of one implementation, each called once already."""
    made: list[Contender] = []
    directions = directions_on(device)
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
        made.append(Contender(implementation, "forward", work, guarded(partial(device.seconds, work))))
        if not differentiable:
            return made, {}

        def gradient(y: Tensor, point: Tensor, grad: Tensor, keep: bool) -> Any:
            sources = [point, *tracked.values()]
            return torch.autograd.grad(y, sources, grad, retain_graph=keep, allow_unused=True)

        def both(point: Tensor, grad: Tensor) -> Any:
            return gradient(call(implementation, point, tracked), point, grad, False)

        start = time.perf_counter()
        results = guarded(lambda: [call(implementation, point, tracked) for point in points])
        work = _in_turn(
            [partial(gradient, y, p, g, True) for y, p, (_, g) in zip(results, points, sets, strict=True)]
        )
        guarded(work)
        made.append(Contender(implementation, "backward", work, time.perf_counter() - start))
        if device.is_accelerator:
            work = _in_turn([partial(both, p, g) for p, (_, g) in zip(points, sets, strict=True)])
            guarded(work)
            made.append(Contender(implementation, BOTH, work, 0.0))
    except (KernelError, RuntimeError) as error:
        failure = timed_failure(implementation, n, error)
    else:
        return made, {}
    return made, dict.fromkeys(directions[len(made) :], failure)


__all__ = [
    "BOTH",
    "DEVICE_SETS",
    "SEED",
    "Contender",
    "baselines",
    "directions_on",
    "prepare",
    "timed_failure",
]
