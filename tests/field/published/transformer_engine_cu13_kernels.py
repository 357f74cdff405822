"""Transformer Engine's CUDA kernels as its wheel ships them: machine code, of which nothing is installed."""

from __future__ import annotations

import sys
from pathlib import Path

from precision_lab.functions import get_function
from precision_lab.implementations import Implementation, from_cuda

LIBRARY = Path(sys.prefix) / "library" / "libtransformer_engine.so"
HERE = "tests/field/published/transformer_engine_cu13_kernels.py"
TYPES = {"bf16": "13__nv_bfloat16", "fp16": "6__half"}
# Its name there, that of its derivative, and the function.
OPERATIONS = {
    "gelu": ("gelu", "dgelu", "gelu_tanh"), "silu": ("silu", "dsilu", "silu"),
    "srelu": ("srelu", "dsrelu", "relu2"), "relu": ("relu", "drelu", "relu"),
}  # fmt: skip
KERNELS = tuple(f"{name}_{fmt}" for name in OPERATIONS for fmt in TYPES)


def _operation(name: str) -> str:
    """One element at a time, in FP32, which serves operands of any alignment; mangled."""
    return f"ILi1ELb1EfNS_5EmptyEXadL_ZNS_{len(name)}{name}IffEET_T0_RKS1_EE"


def launch(forward: str, backward: str, fmt: str) -> tuple[str, str]:
    """What is in the forward kernel's name and in no other's, and how both are launched.

    No scale is given and no amax or inverse scale is asked for, as for results that are not FP8.
    """
    kind = TYPES[fmt]
    gradient = f"17unary_grad_kernel{_operation(backward)}{kind}S7_S7_EE"
    return (
        f"12unary_kernel{_operation(forward)}{kind}S7_EE",
        f"x, null, y, null, null, null, {{}}, n, n block=512 format={fmt} "
        f"backward={gradient}(dy, x, dx, null, null, null, {{}}, n, n)",
    )


def __getattr__(name: str) -> Implementation:
    if name not in KERNELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    operation, _, fmt = name.rpartition("_")
    forward, backward, function = OPERATIONS[operation]
    symbol, how = launch(forward, backward, fmt)
    return from_cuda(LIBRARY, symbol, get_function(function), target=f"{HERE}:{name}", launch=how)
