"""The processor that Python runs on."""

from __future__ import annotations

from precision_lab.devices.base import Device


class Cpu(Device):
    kind = "cpu"
    spelling = "'cpu'"
    title = "a CPU"


CPU = Cpu("cpu")
