"""Activations inside the MLP block of a Llama, as the paper's Table 1 compares them: time and memory.

x → up projection → f → down projection, and for SwiGLU a second projection that gates. At the
default shape a gated block is two thirds as wide, so that all have the same number of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from precision_lab.benchmark import SEED, Clock
from precision_lab.exceptions import KernelError
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import get_implementation
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.placement import on_device, raise_if_lost
from precision_lab.implementations.runner import call, leaf_tensors, torch_dtype
from precision_lab.results import Block, Failure

# Function, implementation and execution. The first is what ratios refer to.
SUBJECTS = (
    ("silu", "torch", "eager"),
    ("gelu", "torch", "eager"),
    ("relu2", "torch", "eager"),
    ("swiglu", "torch", "eager"),
    ("xielu", "eps-expm1", "eager"),
    ("xielu", "eps-expm1", "compiled"),
    ("xielu", "stable", "operator"),
    ("xiprelu", "as-printed", "eager"),
    ("xiprelu", "as-printed", "compiled"),
    ("xiprelu", "stable", "operator"),
)
GATED = ("swiglu",)


@dataclass(frozen=True)
class Shape:
    """Widths and tokens of a block; the default is the paper's 1.1B model (hidden 9216, gated 6144)."""

    model_width: int = 2304
    hidden: int = 9216
    gated_hidden: int = 6144
    tokens: int = 4096

    def width(self, function: str) -> int:
        return self.gated_hidden if function in GATED else self.hidden


class _Block(nn.Module):
    def __init__(self, implementation: Implementation, shape: Shape, fmt: str) -> None:
        super().__init__()
        self.implementation = implementation
        hidden, dtype = shape.width(implementation.function), torch_dtype(get_format(fmt))
        device = implementation.device

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, device=device, dtype=dtype) / math.sqrt(columns))

        self.up = weight(hidden, shape.model_width)
        self.gate = weight(hidden, shape.model_width) if implementation.function in GATED else None
        self.down = weight(shape.model_width, hidden)
        values = get_function(implementation.function).check_params()
        leaves = leaf_tensors(implementation, values, fmt)
        self.leaves = nn.ParameterDict() if self.gate is not None else nn.ParameterDict(leaves)

    def forward(self, x: Tensor) -> Tensor:
        inner = x @ self.up.t()
        if self.gate is None:
            y = call(self.implementation, inner, dict(self.leaves.items()))
        else:
            y = call(self.implementation, x @ self.gate.t(), {"b": inner})
        return y @ self.down.t()


def blocks(
    *,
    device: str = "cpu",
    fmt: str = "bf16",
    shape: Shape | None = None,
    rounds: int = 15,
    subjects: Sequence[tuple[str, str, str]] = SUBJECTS,
) -> list[Block]:
    """Time of forward and backward, and peak memory on a GPU, of each activation's block.

    Blocks take turns, so that ratios compare the same rounds.

    Args:
        rounds: timed iterations of each, after two untimed.

    Raises:
        ValueError: no such device; rounds < 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds!r}: at least 1")
    shape, clock = shape or Shape(), Clock(device)
    torch.manual_seed(SEED)
    x = torch.randn(shape.tokens, shape.model_width, device=device, dtype=torch_dtype(get_format(fmt)))
    made: dict[int, _Block] = {}
    failures: dict[int, Failure] = {}
    chosen = [on_device(get_implementation(f, name, execution), device) for f, name, execution in subjects]
    peaks: dict[int, float] = {}
    for k, implementation in enumerate(chosen):
        try:
            block = _Block(implementation, shape, fmt)
            _iterate(block, x)
            peaks[k] = _peak(block, x)
            made[k] = block
        except KernelError as error:
            failures[k] = Failure(error.kind, str(error))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            failures[k] = Failure("out_of_memory", str(error).splitlines()[0])
        except Exception as error:  # a kernel may raise anything
            raise_if_lost(implementation, error)
            failures[k] = Failure("raised", f"{type(error).__name__}: {str(error).splitlines()[0]}")
    times = {k: np.empty(rounds) for k in made}
    for round_ in range(rounds):
        for k, block in made.items():
            times[k][round_] = clock.seconds(partial(_iterate, block, x)) * 1e3
    base = float(np.median(times[0])) if 0 in times else math.nan
    found = []
    for k, implementation in enumerate(chosen):
        low, median, high = np.quantile(times[k], (0.25, 0.5, 0.75)) if k in times else [math.nan] * 3
        found.append(
            Block(
                implementation.function,
                implementation.name,
                implementation.execution,
                fmt,
                shape.model_width,
                shape.width(implementation.function),
                shape.tokens,
                implementation.function in GATED,
                rounds if k in times else 0,
                float(median),
                float(low),
                float(high),
                peaks.get(k, math.nan),
                float(median) / base,
                peaks.get(k, math.nan) / peaks.get(0, math.nan),
                failures.get(k),
            )
        )
    return found


def _iterate(block: _Block, x: Tensor) -> None:
    """One forward and backward pass, as training does it; gradients are dropped."""
    point = x.detach().requires_grad_()
    y = block(point)
    parameters = [p for p in block.parameters() if p.requires_grad]
    torch.autograd.grad(y, [point, *parameters], torch.ones_like(y), allow_unused=True)


def _peak(block: _Block, x: Tensor) -> float:
    """MiB held at once beyond what was held before; NaN where nobody counts."""
    if not x.is_cuda:
        return math.nan
    before = torch.cuda.memory_allocated(x.device)
    torch.cuda.reset_peak_memory_stats(x.device)
    _iterate(block, x)
    return float(torch.cuda.max_memory_allocated(x.device) - before) / 2**20


__all__ = ["SUBJECTS", "Shape", "blocks"]
