"""Every kind of device, and the device that a name means."""

from __future__ import annotations

from precision_lab.devices.base import Device
from precision_lab.devices.cpu import Cpu
from precision_lab.devices.cuda import Cuda
from precision_lab.devices.emulated import Emulated
from precision_lab.exceptions import UsageError, nearest

_KINDS: tuple[type[Device], ...] = (Cpu, Cuda, Emulated)
# For messages: names of devices, and what else they are called.
_NAMES = ("cpu", "cuda", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
_CALLED = {
    "gpu": ("cuda", "sm_90"), "nvidia": ("cuda", "sm_90"), "emulated": ("sm_90", "sm_80", "sm_100"),
    "a100": ("sm_80",), "h100": ("sm_90",), "h200": ("sm_90",), "b200": ("sm_100",), "sm_90a": ("sm_90",),
    "sm_100a": ("sm_100",),
}  # fmt: skip


def kinds() -> tuple[type[Device], ...]:
    """Each kind once; a new one is a file beside this one, and a line above."""
    return _KINDS


def get_device(device: str | Device) -> Device:
    """The device of that name, whether or not this process has it.

    Raises:
        ValueError: no such kind of device.
    """
    if isinstance(device, Device):
        return device
    for kind in _KINDS:
        if kind.understands(device):
            return kind(device)
    known = ", ".join(kind.spelling for kind in _KINDS)
    near = nearest(device, _NAMES, _CALLED)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UsageError(f"device={device!r}: expected {known}{hint}")


def usable_device(device: str | Device) -> Device:
    """The device of that name, which this process uses now; one that has its own process can be had there.

    Raises:
        ValueError: no such kind, or none here.
    """
    found = get_device(device)
    found.check()
    return found


def context_is_lost(error: BaseException) -> bool:
    """Whether an error is of those after which the process can use some device no more."""
    return any(kind(kind.kind).is_lost(error) for kind in _KINDS if not kind.own_process)
