"""What an implementation under test declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Kernel = Callable[..., Any]  # kernel(x, *, alpha_p=..., ...) -> y, on torch tensors
EXECUTIONS = ("eager", "upcast", "compiled", "fp8-fp32", "fp8-bf16", "module")


@dataclass(frozen=True)
class Implementation:
    """A kernel, the formats it claims, and how it is executed.

    Attributes:
        name: formulation, e.g. `naive`; unique together with `function` and `execution`.
        function: registered activation it computes.
        kernel: `kernel(x, **params) -> y`, differentiable through autograd unless said otherwise.
        execution: one of `EXECUTIONS`. `eager`: every operation rounds to the storage
            format. `upcast`: FP32 inside, one rounding at the end. `compiled`:
            torch.compile on the eager kernel. `fp8-fp32`, `fp8-bf16`: E4M3/E5M2
            storage around a core of that dtype. `module`: as its own code runs it.
        formats: input formats it claims to support.
        compute_dtype: what arithmetic happens in, for people ("storage", "fp32", "fp64").
        saturating: whether a cast to an FP8 format clamps to the largest finite value.
        effective: maps asked parameters and the input format to those the kernel really
            uses (as rounded to their dtype); None means "rounded to the storage format".
        description: one sentence for people.
        outputs: the outputs it can give; None means all of the function's. A module trained
            on raw parameters gives `grad_raw_…` instead of `grad_…`.
    """

    name: str
    function: str
    kernel: Kernel
    execution: str
    formats: tuple[str, ...]
    compute_dtype: str
    description: str
    saturating: bool = False
    effective: Callable[[Mapping[str, float], str], dict[str, float]] | None = None
    outputs: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        return f"{self.name} [{self.execution}{', saturating' if self.saturating else ''}]"

    def measured_outputs(self) -> tuple[str, ...]:
        """`outputs`, or all outputs of the function."""
        from precision_lab.functions import get_function

        return self.outputs if self.outputs is not None else get_function(self.function).outputs

    def output_format(self, fmt: str, output: str) -> str:
        """Storage format of `output` for inputs of `fmt`: E4M3 activations have E5M2 gradients."""
        return "e5m2" if fmt == "e4m3" and output != "forward" else fmt
