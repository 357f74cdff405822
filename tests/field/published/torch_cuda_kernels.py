"""torch's own CUDA kernels as its wheel ships them: machine code, of which nothing is installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lab.functions import get_function
from precision_lab.implementations import Implementation, from_cuda

LIBRARY = Path(sys.prefix) / "library" / "libtorch_cuda.so"
HERE = "tests/field/published/torch_cuda_kernels.py"
GELU = "GeluCUDAKernelImpl(at::TensorIteratorBase&, at::native::GeluType)::{lambda()#%d}"


@dataclass(frozen=True)
class Shipped:
    """
    Attributes:
        symbol: what is in its name and in no other's.
        launch: where its functor holds values: those that torch gives it by default.
    """

    function: str
    symbol: str
    launch: str = ""


def _with_values(forward: str, backward: str, kernel: str, last: str = "x") -> str:
    return f"n, {{{forward}}}, {{y, x}} backward={kernel}(n, {{{backward}}}, {{dx, dy, {last}}})"


KERNELS = {
    "silu": Shipped("silu", "silu_kernel"),
    "gelu": Shipped("gelu", GELU % 2),
    "gelu_tanh": Shipped("gelu_tanh", GELU % 1),
    "elu": Shipped(
        "elu", "elu_kernel",
        _with_values("alpha, 1.0, 1.0", "alpha, 1.0, 1.0, char(0)", "elu_backward_kernel"),
    ),
    "selu": Shipped(
        "selu", "elu_kernel",
        _with_values("scale_alpha, scale, 1.0", "scale_alpha, scale, 1.0, char(0)", "elu_backward_kernel"),
    ),
    "celu": Shipped(
        "celu", "elu_kernel", _with_values("1.0, 1.0, 1.0", "1.0, 1.0, 1.0, char(0)", "elu_backward_kernel")
    ),
    "softplus": Shipped(
        "softplus", "softplus_kernel", _with_values("1.0, 20.0", "1.0, 20.0", "softplus_backward_kernel")
    ),
    "logsigmoid": Shipped("logsigmoid", "launch_log_sigmoid_forward_kernel"),
    "mish": Shipped("mish", "mish_kernel"),
    "tanh": Shipped("tanh", "tanh_kernel_cuda"),
    "sigmoid": Shipped("sigmoid", "sigmoid_kernel_cuda"),
}  # fmt: skip


def __getattr__(name: str) -> Implementation | Any:
    if name not in KERNELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    one = KERNELS[name]
    return from_cuda(
        LIBRARY, one.symbol, get_function(one.function), target=f"{HERE}:{name}", launch=one.launch
    )
