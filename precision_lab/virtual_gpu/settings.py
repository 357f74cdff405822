"""What a process of an emulated device is told by its environment."""

from __future__ import annotations

DEVICE = "PRECISION_LAB_DEVICE"  # which device this process was started for
ENGINE = "PRECISION_LAB_EMULATOR"
ENGINES = ("fast", "reference")  # the first by default
TABLES = "PRECISION_LAB_DEVICE_TABLES"  # paths, as PATH has them
