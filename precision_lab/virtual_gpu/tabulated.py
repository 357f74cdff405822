"""What one real device returns for approximate instructions, where this process was given its tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from precision_lab.emulator import approximate, nominal
from precision_lab.emulator.device_table import Bits, DeviceTable
from precision_lab.exceptions import UsageError
from precision_lab.virtual_gpu.settings import DEVICE, TABLES

Key = tuple[str, bool]  # an instruction such as "ex2.approx.f32", and whether it flushes


class Conforming:
    """A table whose every result is held to the manual's bound when it is looked up."""

    def __init__(self, table: DeviceTable) -> None:
        self.table, self.header = table, table.header

    def evaluate(self, bits: Bits) -> Bits:
        """As `DeviceTable.evaluate`.

        Raises:
            ValueError: also where the table says what the manual does not allow.
        """
        found, header = self.table.evaluate(bits), self.header
        other = found != nominal.evaluate(header.op, header.ftz, 0, bits)
        if other.any():
            given, returned = bits[other], found[other]
            low, high = approximate.enclosure(header.op, header.ftz, given)
            value = approximate.decoded(header.op, returned)
            is_nan = np.isnan(low) | np.isnan(value)
            inside = np.where(is_nan, np.isnan(low) & np.isnan(value), (low <= value) & (value <= high))
            wrong = np.flatnonzero(~inside & approximate.is_promised(header.op, header.ftz, given))
            if wrong.size:
                k = int(wrong[0])
                raise UsageError(
                    f"{self.table.path}: {header.op} of {int(given[k]):#x} is {int(returned[k]):#x}, which "
                    "the manual does not allow"
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
def tables() -> Mapping[Key, Conforming]:
    """Those that this process was given for its device."""
    setting = os.environ.get(TABLES, "")
    capability = divmod(int(os.environ[DEVICE].removeprefix("sm_")), 10) if setting else (0, 0)
    return load(paths_of(setting), capability)


def paths_of(setting: str) -> list[str]:
    return [path for path in setting.split(os.pathsep) if path]
