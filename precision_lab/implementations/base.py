"""What an implementation under test declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from precision_lab.formats import BF16, FP32, FloatFormat, output_format
from precision_lab.functions import Activation
from precision_lab.implementations.contract import CallContract

Kernel = Callable[..., Any]  # kernel(x, *, alpha_p=..., ...) -> y, on torch tensors
EXECUTIONS = (
    "eager", "upcast", "compiled", "fp8-fp32", "fp8-bf16", "module", "operator", "triton", "cuda", "te"
)  # fmt: skip
ARRAYS = ("numpy", "jax", "mlx")  # frameworks beside torch
FOREIGN = (*ARRAYS, "c")
_CORES = {"fp8-fp32": FP32, "fp8-bf16": BF16}


@dataclass(frozen=True)
class Implementation:
    """A kernel, the formats it claims, and how it is executed.

    Attributes:
        name: formulation, e.g. `naive`; unique together with `function`, `execution` and
            `saturating`.
        function: the activation it computes.
        kernel: `kernel(x, **leaves) -> y`, differentiable through autograd unless said otherwise.
        execution: one of `EXECUTIONS`, or of `FOREIGN` for a kernel that is not torch's. `eager`:
            every operation rounds to the storage format. `upcast`: FP32 inside, one rounding
            at the end. `compiled`:
            torch.compile on the eager kernel. `fp8-fp32`, `fp8-bf16`: E4M3/E5M2
            storage around a core of that dtype. `module`: as its own code runs it. `operator`, `triton`,
            `cuda`, `te`: a torch operator, a Triton kernel, CUDA C++, Transformer Engine, FP32 inside
            unless the name says otherwise.
        formats: input formats it claims to support.
        compute_dtype: what arithmetic happens in, for people ("storage", "fp32", "fp64").
        description: one sentence for people.
        saturating: whether a cast to an FP8 format clamps to the largest finite value.
        outputs: the outputs it can give; None means all of the function's. A module trained
            on raw parameters gives `grad_raw_…` instead of `grad_…`.
        leaves: tensors handed to the kernel by name, for given parameters and format; an
            output `grad_NAME` is the gradient of leaf NAME. None: the function's parameters,
            rounded to the dtype the kernel computes with.
        effective: effective parameters that the kernel really uses then; None: the leaves.
        parameters: those of the function's parameters that it is given; None for all. The others
            are fixed in it.
        target: where a stranger's kernel was found, "my_kernels.py:xielu"; "" for the lab's own.
        storage: format of its results where that is not the input's.
        devices: kinds of devices that it can run on.
        capability: the least CUDA compute capability, major and minor.
        device: where it runs: "cpu", "cuda" or "cuda:N"; set by `on_device`.
        contract: the sizes and shapes that it is called with.
    """

    name: str
    function: Activation
    kernel: Kernel
    execution: str
    formats: tuple[FloatFormat, ...]
    compute_dtype: str
    description: str
    saturating: bool = False
    outputs: tuple[str, ...] | None = None
    leaves: Callable[[Mapping[str, float], FloatFormat], dict[str, Any]] | None = None
    effective: Callable[[Mapping[str, float], FloatFormat], dict[str, float]] | None = None
    parameters: tuple[str, ...] | None = None
    target: str = ""
    storage: FloatFormat | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    capability: tuple[int, int] = (0, 0)
    device: str = "cpu"
    contract: CallContract = field(default_factory=CallContract)

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def execution_name(self) -> str:
        """The execution and, where it saturates, that it does: what results call it."""
        return self.execution + (", saturating" if self.saturating else "")

    @property
    def label(self) -> str:
        return f"{self.name} [{self.execution_name}]"

    def options(self) -> list[str]:
        """What makes the command line call it as it is called here, beside its TARGET and device."""
        words = self.contract.options()
        if self.target and self.execution in ARRAYS:
            words.append(f"--framework {self.execution}")
        if self.execution == "compiled":
            words.append("--compiled")
        return words

    def is_given(self, parameter: str) -> bool:
        """Whether the kernel gets this parameter; otherwise it is a number of its source."""
        return self.parameters is None or parameter in self.parameters

    def core_format(self, fmt: FloatFormat) -> FloatFormat:
        """Format of the tensors that the kernel itself receives for inputs of `fmt`."""
        return _CORES.get(self.execution, fmt)

    def measured_outputs(self) -> tuple[str, ...]:
        """`outputs`, or all outputs of the function."""
        return self.outputs if self.outputs is not None else self.function.outputs

    def output_format(self, fmt: FloatFormat, output: str) -> FloatFormat:
        """Storage format of `output` for inputs of `fmt`: around an FP8 store E4M3 has E5M2 gradients."""
        if self.storage is not None:
            return self.storage
        return output_format(fmt, output) if self.execution.startswith("fp8") else fmt
