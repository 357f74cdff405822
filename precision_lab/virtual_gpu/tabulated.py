"""What one real device returns for approximate instructions, where this process was given its tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from precision_lab.emulator import nominal
from precision_lab.emulator.device_table import Bits, DeviceTable, violates
from precision_lab.emulator.faults import Unsupported
from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.virtual_gpu.settings import DEVICE, TABLES, paths_of

Key = tuple[str, bool]  # an instruction such as "ex2.approx.f32", and whether it flushes


class Conforming:
    """A table whose every result is held to the manual's bound when it is looked up.

    All of 2^32 are not looked at first: that takes minutes (`DeviceTable.violations`).
    """

    def __init__(self, table: DeviceTable) -> None:
        self.table, self.header = table, table.header

    def evaluate(self, bits: Bits) -> Bits:
        """As `DeviceTable.evaluate`.

        Raises:
            Unsupported: there is no such input in the table, the file has changed, or it says what the
                manual does not allow. It is raised in a launch, and is no fault of the kernel's.
        """
        header = self.header
        try:
            found = self.table.evaluate(bits)
        except (UsageError, DamagedFileError, OSError) as error:
            raise Unsupported(f"{self.table.path}: {error}") from error
        other = found != nominal.evaluate(header.op, header.ftz, 0, bits)
        if other.any():
            given, returned = bits[other], found[other]
            wrong, low, high = violates(header, given, returned)
            if wrong.any():
                k = int(np.flatnonzero(wrong)[0])
                raise Unsupported(
                    f"{self.table.path}: {header.op} of {int(given[k]):#x} is {int(returned[k]):#x}, which "
                    f"the manual does not allow: {int(low[k]):#x} to {int(high[k]):#x}"
                )
        return found


def load(paths: Iterable[str], capability: tuple[int, int]) -> dict[Key, Conforming]:
    """Tables by instruction.

    Args:
        capability: of the device that is emulated, such as (9, 0).

    Raises:
        DamagedFileError: one cannot be read or is not as it was written.
        ValueError: one is of another kind of device, two are of one instruction, or they are of two devices.
    """
    found: dict[Key, Conforming] = {}
    for path in paths:
        try:
            table = DeviceTable.load(Path(path))
        except OSError as error:
            raise UsageError(f"--device-table {path}: {error.strerror or error}") from error
        header = table.header
        if header.capability != f"{capability[0]}.{capability[1]}":
            raise UsageError(
                f"--device-table {path}: it was measured on {header.device}, of capability "
                f"{header.capability}, and sm_{capability[0]}{capability[1]} is emulated"
            )
        others = [other.header for other in found.values() if other.header.device != header.device]
        if others:
            raise UsageError(
                f"--device-table {path}: it is of {header.device}, another of {others[0].device}"
            )
        if (header.op, header.ftz) in found:
            raise UsageError(f"--device-table {path}: there is another one of {header.op}")
        found[header.op, header.ftz] = Conforming(table)
    return found


@cache
def held(setting: str, capability: tuple[int, int]) -> Mapping[Key, Conforming]:
    """`load` of the paths of a setting, which are read once."""
    return load(paths_of(setting), capability)


def tables() -> Mapping[Key, Conforming]:
    """Those that this process was given for its device."""
    setting = os.environ.get(TABLES, "")
    capability = divmod(int(os.environ[DEVICE].removeprefix("sm_")), 10) if setting else (0, 0)
    return held(setting, capability)
