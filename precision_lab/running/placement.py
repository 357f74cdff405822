"""Where an implementation runs, and whether it can run there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from precision_lab.devices import Device, context_is_lost
from precision_lab.exceptions import DeviceLostError, KernelError, UsageError, first_line
from precision_lab.implementations.base import Implementation
from precision_lab.results import Failure

T = TypeVar("T")


def on_device(implementation: Implementation, device: Device) -> Implementation:
    """The implementation, to be run on a device.

    Raises:
        ValueError: no such device, or none that the implementation runs on.
    """
    device.require()
    if not implementation.runs_on(device):
        known = " and ".join(d.kind for d in implementation.known_devices)
        hint = "; without a GPU, device='sm_90' executes its PTX" if known == "cuda" else ""
        raise UsageError(
            f"{implementation.label} runs on {known}, and device={device.name!r} was asked for{hint}"
        )
    return dataclasses.replace(implementation, device=device)


def require_capability(implementation: Implementation) -> None:
    """Raises a KernelError where the device is too old for the implementation."""
    if implementation.device.platform != "cuda" or implementation.capability == (0, 0):
        return
    major, minor = implementation.device.capability()
    if (major, minor) < implementation.capability:
        needed = ".".join(map(str, implementation.capability))
        raise KernelError(
            "unsupported_device",
            f"{implementation.label} needs compute capability {needed}; this device has {major}.{minor}",
        )


def raise_if_lost(subject: Implementation | str, error: BaseException) -> None:
    """Raises a DeviceLostError for an error after which nothing can be measured on the GPU."""
    if context_is_lost(error):
        name = subject if isinstance(subject, str) else f"{subject.function.name} {subject.label}"
        raise DeviceLostError(
            f"{name} destroyed the CUDA context ({first_line(error)}); nothing more "
            "can be measured on the GPU in this process"
        ) from error


def failure_of(subject: Implementation | str, error: Exception, *, size: str = "") -> Failure:
    """Why a kernel could not be run, from what `guarded` lets out or the device says.

    Args:
        size: how much was asked for, put before what is said.

    Raises:
        DeviceLostError: the GPU's context is destroyed.
        Exception: the error, where it is neither a kernel's nor a device's.
    """
    if isinstance(error, KernelError):
        return Failure(error.kind, f"{size}{error}" if error.kind == "raised" else str(error))
    if isinstance(error, torch.OutOfMemoryError):
        return Failure("out_of_memory", f"{size}{first_line(error)}")
    raise_if_lost(subject, error)
    raise error


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
