"""How a kernel is run, as data: what code asks of an execution is a field of it, never its name."""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.formats import BF16, FP32, FloatFormat
from precision_lab.registry import Registry


@dataclass(frozen=True)
class Execution:
    """One way to run a kernel. Where it runs is a device, and the two share no name.

    Attributes:
        name: what results and the command line call it.
        compiled: by torch.compile.
        upcast: called with tensors in FP32; its result is rounded once.
        core: what FP8 storage stands around: the kernel gets, and gives, tensors of this format.
        parallel: calls of the lab's own kernels may run in several threads at once.
        keeps_nothing: the lab's own kernels keep nothing between calls but what torch has loaded for them.
        framework: whose arrays the kernel takes; "c" for plain memory.
        traceable: torch.compile can be asked to run the same kernel.
        one_number: takes each parameter as one number, never one per element.
        package: what compiles its code for a GPU at run time; "" for what only calls torch's operators.
    """

    name: str
    compiled: bool = False
    upcast: bool = False
    core: FloatFormat | None = None
    parallel: bool = False
    keeps_nothing: bool = False
    framework: str = "torch"
    traceable: bool = False
    one_number: bool = False
    package: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether the kernel is not torch's: the lab's own code stands between it and autograd."""
        return self.framework != "torch"

    def __str__(self) -> str:
        return self.name


EAGER = Execution(
    "eager", parallel=True, keeps_nothing=True, traceable=True
)  # every operation rounds to the storage format
UPCAST = Execution("upcast", upcast=True, parallel=True, keeps_nothing=True)
# On a GPU it is Triton that compiles what Inductor has written.
COMPILED = Execution("compiled", compiled=True, traceable=True, package="triton")
FP8_FP32 = Execution("fp8-fp32", core=FP32, parallel=True, keeps_nothing=True)
FP8_BF16 = Execution("fp8-bf16", core=BF16, parallel=True, keeps_nothing=True)
MODULE = Execution("module", keeps_nothing=True, traceable=True)
# FP32 inside, unless an implementation's name says otherwise.
OPERATOR = Execution("operator", keeps_nothing=True, package="triton")  # a torch operator
TRITON = Execution("triton", package="triton")
CUDA_CPP = Execution("cuda", package="cuda.bindings")
TRANSFORMER_ENGINE = Execution("te")
NUMPY = Execution("numpy", framework="numpy")
JAX = Execution("jax", framework="jax")
MLX = Execution("mlx", framework="mlx")
C = Execution("c", framework="c", one_number=True)

EXECUTIONS = Registry(
    "execution", Execution,
    (
        EAGER, UPCAST, COMPILED, FP8_FP32, FP8_BF16, MODULE, OPERATOR, TRITON, CUDA_CPP, TRANSFORMER_ENGINE,
        NUMPY, JAX, MLX, C,
    ),
)  # fmt: skip
ARRAYS = tuple(e.framework for e in (NUMPY, JAX, MLX))  # frameworks of arrays, beside torch


def spaced(execution: str) -> str:
    """An execution's name as results have it. Earlier versions set commas in it: "fp8-fp32, saturating"."""
    return execution.replace(", ", " ")


def labelled(implementation: str, execution: str) -> str:
    """NAME, or NAME [EXECUTION] where that is not eager: as `implementations.resolve` reads it."""
    return implementation if execution == EAGER.name else f"{implementation} [{execution}]"
