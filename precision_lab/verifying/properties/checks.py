"""What results are held to before they are numbers: shape, dtype and device; and when they are the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.formats import FloatFormat
from precision_lab.implementations.base import Implementation
from precision_lab.oracle import Reference
from precision_lab.verifying.properties.pool import Index


def hexadecimal(bits: int, fmt: FloatFormat) -> str:
    """Bits of a format, as messages and witnesses have them."""
    return f"0x{int(bits):0{fmt.bits // 4}x}"


def take(exact: Reference, index: Index) -> Reference:
    """The references of chosen inputs."""
    return Reference(
        exact.fmt, exact.rounded[index], exact.tail[index], exact.ulp[index], exact.exact[index],
        exact.sign[index], exact.tier[index], exact.undecided[index],
    )  # fmt: skip


def differ(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where two results are not the same number; NaN is the same as NaN."""
    same: NDArray[np.bool_] = (values == others) | (np.isnan(values) & np.isnan(others))
    return ~same


def bits_of(tensor: Tensor) -> Tensor:
    """A copy of a tensor's bits, so that NaN equals NaN and −0 is not 0."""
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().clone(memory_format=torch.contiguous_format).view(integer)


def check_like(value: object, x: Tensor, what: str) -> None:
    """Raises a KernelError for a result that is no tensor of x's shape, dtype and device."""
    if not isinstance(value, Tensor):
        raise KernelError("wrong_dtype", f"{what} is a {type(value).__name__}, not a tensor")
    if value.shape != x.shape:
        raise KernelError("wrong_shape", f"{what} has shape {tuple(value.shape)} for x of {tuple(x.shape)}")
    if value.dtype != x.dtype:
        raise KernelError("wrong_dtype", f"{what} is {value.dtype} for x of {x.dtype}")
    if value.device != x.device:
        raise KernelError("wrong_device", f"{what} is on {value.device}")


def lies(x: Tensor) -> str:
    """How a tensor lies in memory, for people."""
    if x.is_contiguous() and x.storage_offset() == 0:
        return "contiguous"
    offset = f", from element {x.storage_offset()} of its memory on" if x.storage_offset() else ""
    return f"strides {tuple(x.stride())}{offset}"


@contextmanager
def poisoned(implementation: Implementation) -> Iterator[None]:
    """torch.empty gives NaN, so that what a kernel leaves unwritten shows. Not for compiled code,
    which would be compiled anew for it.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if implementation.execution.compiled:
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
