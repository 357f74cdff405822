"""Where an implementation runs, and whether it can run there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from precision_lab.exceptions import DeviceLostError, KernelError, UsageError, first_line
from precision_lab.implementations.base import FOREIGN, Implementation
from precision_lab.results import Failure

T = TypeVar("T")

# What errors say that leave a CUDA context of no use: every later call in the process fails too.
_LOST = (
    "illegal memory access", "misaligned address", "illegal instruction", "unspecified launch failure",
    "device-side assert", "illegal address", "hardware stack error", "invalid program counter",
    "operation not supported on global/shared address space", "launch timed out", "uncorrectable ECC",
    "CUDA_ERROR_ILLEGAL", "CUDA_ERROR_MISALIGNED", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR", "CUDA_ERROR_INVALID_PC", "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_LAUNCH_TIMEOUT", "CUDA_ERROR_ECC_UNCORRECTABLE",
)  # fmt: skip


def check_device(device: str) -> str:
    """The device's name, if this process can use it; "cuda:N" becomes the process's current device.

    A kernel that does not ask where its tensors are is launched on the current device, and so are the
    events that time it.

    Raises:
        ValueError: not "cpu", "cuda" or "cuda:N", or no such CUDA device here.
    """
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdigit())):
        raise UsageError(f"device={device!r}: expected 'cpu', 'cuda' or 'cuda:N'")
    if kind == "cuda":
        if not torch.cuda.is_available():
            built = "torch sees none" if torch.version.cuda else "this build of torch has no CUDA"
            raise UsageError(f"device={device!r}: no CUDA device, {built}")
        if colon and int(index) >= torch.cuda.device_count():
            raise UsageError(f"device={device!r}: there are {torch.cuda.device_count()} CUDA devices")
        torch.cuda.init()  # type: ignore[no-untyped-call]
        if colon:
            torch.cuda.set_device(int(index))
    return device


def on_device(implementation: Implementation, device: str) -> Implementation:
    """The implementation, to be run on a device.

    Raises:
        ValueError: no such device, or none that the implementation runs on.
    """
    check_device(device)
    kind = device.partition(":")[0]
    known = ("cpu",) if implementation.execution in FOREIGN else implementation.devices
    if kind not in known:
        raise UsageError(
            f"{implementation.label} runs on {' and '.join(known)}, and device={device!r} was asked for"
        )
    return dataclasses.replace(implementation, device=device)


def require_capability(implementation: Implementation) -> None:
    """Raises a KernelError where the GPU is too old for the implementation."""
    if not implementation.on_cuda or implementation.capability == (0, 0):
        return
    major, minor = torch.cuda.get_device_capability(implementation.device)
    if (major, minor) < implementation.capability:
        needed = ".".join(map(str, implementation.capability))
        raise KernelError(
            "unsupported_device",
            f"{implementation.label} needs compute capability {needed}; this device has {major}.{minor}",
        )


def context_is_lost(error: BaseException) -> bool:
    """Whether a CUDA error is of those after which the process can use its GPU no more."""
    words = str(error)
    return isinstance(error, RuntimeError) and "CUDA" in words and any(lost in words for lost in _LOST)


def raise_if_lost(subject: Implementation | str, error: BaseException) -> None:
    """Raises a DeviceLostError for an error after which nothing can be measured on the GPU."""
    if context_is_lost(error):
        name = subject if isinstance(subject, str) else f"{subject.function.name} {subject.label}"
        raise DeviceLostError(
            f"{name} destroyed the CUDA context ({first_line(error)}); nothing more "
            "can be measured on the GPU in this process"
        ) from error


def failure_of(subject: Implementation | str, error: Exception, words: str, *, size: str = "") -> Failure:
    """Why a kernel could not be run, from what it raised: its author's code may raise anything.

    Args:
        words: what the error says, as it is to be told.
        size: how much was asked for, put before what an error about memory says.

    Raises:
        DeviceLostError: the GPU's context is destroyed.
    """
    if isinstance(error, DeviceLostError):
        raise error
    if isinstance(error, KernelError):
        return Failure(error.kind, str(error))
    if isinstance(error, torch.OutOfMemoryError):
        return Failure("out_of_memory", f"{size}{first_line(error)}")
    raise_if_lost(subject, error)
    return Failure("raised", f"{type(error).__name__}: {words}")


class Survivor:
    """Keeps what was measured when a kernel destroys the process's CUDA context.

    Attributes:
        lost: what destroyed it, in a sentence; empty while it is whole.
    """

    def __init__(self, lost: str = "") -> None:
        self.lost = lost

    def attempt(self, work: Callable[[], T], blank: Callable[[Failure], T]) -> T:
        """The work's result; `blank(why)` where it destroys the context, or something before it did."""
        if self.lost:
            return blank(Failure("device_lost", self.lost))
        try:
            return work()
        except DeviceLostError as error:
            self.lost = str(error)
            return blank(Failure("crashed", self.lost))

    def see(self, failures: Iterable[Failure | None]) -> None:
        """Learns from rows, whose maker has survived on its own, that the context is destroyed."""
        for failure in failures:
            if failure is not None and failure.kind == "crashed":
                self.lost = failure.message
