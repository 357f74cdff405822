"""Triton kernels under test, and the lab's stable operator; Triton itself is imported when one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from precision_lab.devices import CPU, CUDA
from precision_lab.exceptions import KernelError
from precision_lab.functions import ELU, XIELU, XIPRELU, Activation
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.family import WIDE
from precision_lab.kernels import xielu, xiprelu
from precision_lab.results.execution import OPERATOR, TRITON
from precision_lab.system.extras import install_line

_FORMS = {
    "naive": "tl.exp(x) − 1",
    "expm1": "libdevice.expm1(x)",
    "eps-naive": "tl.exp(min(x, −1e-6)) − 1",
    "eps-expm1": "libdevice.expm1(min(x, −1e-6))",
    "exp2": "tl.exp2(x·log₂e) − 1",
    "libdevice-exp": "libdevice.exp(x) − 1",
    "fast-exp": "libdevice.fast_expf(x) − 1",
}
_CAPABILITY = (8, 0)  # bf16 arithmetic and conversions


def _kernels() -> Any:
    try:
        from precision_lab.implementations import triton_kernels
    except ImportError as error:
        raise KernelError(
            "missing_dependency", f"Triton is not installed ({error}); {install_line('triton')}"
        ) from error
    return triton_kernels


def _three(kind: str, form: str, x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    result: Tensor = _kernels().fused(kind, form, x, alpha_p, alpha_n, beta)
    return result


def _elu(form: str, x: Tensor, *, alpha: Tensor) -> Tensor:
    one = torch.ones((), device=x.device)
    result: Tensor = _kernels().fused("elu", form, x, one, alpha, one)
    return result


def _implementation(
    name: str, function: Activation, kernel: Callable[..., Tensor], description: str, **options: Any
) -> Implementation:
    return Implementation(
        name, function, kernel, formats=WIDE, description=description,
        **{"execution": TRITON, "compute_dtype": "fp32", "devices": (CUDA,),
           "capability": _CAPABILITY, **options},
    )  # fmt: skip


def _all() -> Iterator[Implementation]:
    for form, words in _FORMS.items():
        yield _implementation(form, XIELU, partial(_three, "xielu", form), words)
        yield _implementation(form, ELU, partial(_elu, form), words)
    yield _implementation("as-printed", XIPRELU, partial(_three, "xiprelu", "naive"), "α·x·x + β·x")
    for function, kernel in ((XIELU, xielu), (XIPRELU, xiprelu)):
        yield _implementation(
            "stable", function, kernel, f"the lab's operator precision_lab::{function.name}",
            execution=OPERATOR, compute_dtype="fp32, fp64 at roots and for fp32", devices=(CPU, CUDA),
        )  # fmt: skip


IMPLEMENTATIONS = tuple(_all())
