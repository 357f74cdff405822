"""What a process of an emulated device is told by its environment."""

from __future__ import annotations

import os

DEVICE = "PRECISION_LAB_DEVICE"  # which device this process was started for
ENGINE = "PRECISION_LAB_EMULATOR"
ENGINES = ("fast", "reference", "sass")  # the first by default; machine code is always the last one's
TABLES = "PRECISION_LAB_DEVICE_TABLES"  # paths, as PATH has them


def paths_of(setting: str) -> list[str]:
    """Of `TABLES`; none where nothing is set."""
    return [path for path in setting.split(os.pathsep) if path]
