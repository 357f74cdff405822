"""Where kernels run: one file per kind of device, which alone knows what torch calls it.

Nothing here imports torch until a device is asked for something.
"""

from precision_lab.devices.base import Check, Device
from precision_lab.devices.cpu import CPU
from precision_lab.devices.cuda import CUDA
from precision_lab.devices.emulated import Emulated
from precision_lab.devices.kinds import context_is_lost, get_device, kinds, usable_device

__all__ = [
    "CPU",
    "CUDA",
    "Check",
    "Device",
    "Emulated",
    "context_is_lost",
    "get_device",
    "kinds",
    "usable_device",
]
