"""Activations inside the MLP block of a Llama, as the paper's Table 1 compares them: time and memory.

x → up projection → f → down projection, and for SwiGLU a second projection that gates. At the
default shape a gated block is two thirds as wide, so that all have the same number of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from precision_lab.devices import CPU, Device
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import BF16, FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.functions import SILU, Activation
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.guard import guarded
from precision_lab.results import Block, Failure
from precision_lab.running.case import case_of
from precision_lab.running.placement import Survivor, failure_of, on_device
from precision_lab.running.runner import call, leaf_tensors
from precision_lab.study.contenders import SEED


@dataclass(frozen=True)
class Shape:
    """Widths and tokens of a block; the default is the paper's 1.1B model (1536; 9216, gated 6144)."""

    model_width: int = 1536
    hidden: int = 9216
    gated_hidden: int = 6144
    tokens: int = 4096

    def width(self, function: Activation) -> int:
        return self.gated_hidden if function.is_gated else self.hidden


CPU_SHAPE = Shape(tokens=256)  # seconds instead of minutes; the ratios are of the same products


class _Block(nn.Module):
    def __init__(self, implementation: Implementation, shape: Shape, fmt: FloatFormat) -> None:
        super().__init__()
        self.implementation = implementation
        hidden, dtype = shape.width(implementation.function), torch_dtype(fmt)
        device = implementation.device.torch

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, device=device, dtype=dtype) / math.sqrt(columns))

        self.up = weight(hidden, shape.model_width)
        self.gate = weight(hidden, shape.model_width) if implementation.function.is_gated else None
        self.down = weight(shape.model_width, hidden)
        leaves = leaf_tensors(case_of(implementation, fmt))
        self.leaves = nn.ParameterDict() if self.gate is not None else nn.ParameterDict(leaves)

    def forward(self, x: Tensor) -> Tensor:
        inner = x @ self.up.t()
        if self.gate is None:
            y = call(self.implementation, inner, dict(self.leaves.items()))
        else:
            gates = {operand.name: inner for operand in self.implementation.function.operands}
            y = call(self.implementation, x @ self.gate.t(), gates)
        return y @ self.down.t()


def blocks(
    subjects: Sequence[Implementation],
    *,
    device: Device = CPU,
    fmt: FloatFormat = BF16,
    shape: Shape | None = None,
    rounds: int = 15,
    lost: str = "",
) -> list[Block]:
    """Time of forward and backward, and peak memory, of each activation's block.

    Ratios refer to the first block of SiLU; without one they are NaN.

    Blocks take turns, so that ratios compare the same rounds. One that fails has a row with the reason, and
    the others go on, unless it destroys the GPU's context.

    Args:
        rounds: timed iterations of each, after two untimed.
        lost: what destroyed the device's context, so that nothing can be run on it.

    Raises:
        ValueError: no such device; rounds < 1.
    """
    if rounds < 1:
        raise UsageError(f"rounds={rounds!r}: at least 1")
    shape = shape or Shape()
    chosen = [_placed(subject, device, lost) for subject in subjects]
    silu = next((k for k, i in enumerate(chosen) if i.function == SILU), -1)
    failures: dict[int, Failure] = {}
    peaks: dict[int, float] = {}
    times: dict[int, list[float]] = {}
    survivor = Survivor(lost)
    made: dict[int, Callable[[], None]] = {}

    def prepare(k: int, implementation: Implementation) -> None:
        block = _Block(implementation, shape, fmt)
        guarded(partial(_iterate, block, x))
        peaks[k] = guarded(lambda: device.peak_mebibytes(partial(_iterate, block, x)))
        made[k] = partial(_iterate, block, x)
        times[k] = []

    def time(k: int, implementation: Implementation) -> None:
        times[k].append(guarded(partial(device.seconds, made[k])) * 1e3)

    if not lost:
        torch.manual_seed(SEED)
        x = torch.randn(shape.tokens, shape.model_width, device=device.torch, dtype=torch_dtype(fmt))
    for work in (prepare, *[time] * rounds):
        for k, implementation in enumerate(chosen):
            if k not in failures:
                failure = survivor.attempt(partial(_tried, work, k, implementation), lambda why: why)
                if failure is None or (failure.kind == "device_lost" and times.get(k)):
                    continue  # the rounds until then are kept
                failures[k] = failure
                made.pop(k, None)
                times.pop(k, None)
    base = float(np.median(times[silu])) if silu in times else math.nan
    found = []
    for k, implementation in enumerate(chosen):
        low, median, high = np.quantile(times[k], (0.25, 0.5, 0.75)) if k in times else [math.nan] * 3
        found.append(
            Block(
                implementation.function.name,
                implementation.name,
                implementation.execution.name,
                fmt.name,
                shape.model_width,
                shape.width(implementation.function),
                shape.tokens,
                implementation.function.is_gated,
                len(times.get(k, ())),
                float(median),
                float(low),
                float(high),
                peaks.get(k, math.nan),
                float(median) / base,
                peaks.get(k, math.nan) / peaks.get(silu, math.nan),
                failures.get(k),
                tuple(times.get(k, ())),
            )
        )
    return found


def _placed(implementation: Implementation, device: Device, lost: str) -> Implementation:
    # A device whose context is lost is not to be asked for anything.
    return replace(implementation, device=device) if lost else on_device(implementation, device)


def _tried(
    work: Callable[[int, Implementation], None], k: int, implementation: Implementation
) -> Failure | None:
    """Why the work could not be done, or None.

    Raises:
        DeviceLostError: the GPU's context is destroyed.
    """
    try:
        work(k, implementation)
    except (KernelError, RuntimeError) as error:
        failure = failure_of(implementation, error)
    else:
        return None
    if failure.kind == "out_of_memory":
        # Outside of the handler, whose error holds what its functions held.
        implementation.device.release_memory()
    return failure


def _iterate(block: _Block, x: Tensor) -> None:
    """One forward and backward pass, as training does it; gradients are dropped."""
    point = x.detach().requires_grad_()
    y = block(point)
    parameters = [p for p in block.parameters() if p.requires_grad]
    torch.autograd.grad(y, [point, *parameters], torch.ones_like(y), allow_unused=True)
