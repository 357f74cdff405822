"""How many warps of a kernel a multiprocessor holds at once.

Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (registers, blocks,
warps and shared memory of a multiprocessor) and "Hardware Multithreading"; the units in which registers and
shared memory are given away are those of the occupancy calculator of Nsight Compute: 256 registers a warp,
warps in fours, and 128 bytes of shared memory (256 for 7.5), of which each block takes 1 KiB for the system
from 8.0 on.
"""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.emulator.launch import WARP
from precision_lab.virtual_gpu.properties import properties

REGISTERS = 65536  # of a multiprocessor
_UNIT = 256  # registers of a warp are given away in these
_SCHEDULERS = 4  # each has its own registers and warps
_RESERVED = 1024
# Blocks of a multiprocessor, by compute capability.
_BLOCKS = {75: 16, 80: 32, 86: 16, 87: 16, 89: 24, 90: 32, 100: 32, 103: 32, 120: 24, 121: 24}


@dataclass(frozen=True)
class Occupancy:
    """
    Attributes:
        blocks: that are resident at once.
        warps: of these.
        most_warps: that a multiprocessor has room for.
        limit: what there is not enough of for more: "registers", "shared memory", "warps" or "blocks".
    """

    blocks: int
    warps: int
    most_warps: int
    limit: str

    @property
    def share(self) -> float:
        return self.warps / self.most_warps


def occupancy(target: str, threads: int, registers: int, shared_bytes: int) -> Occupancy | None:
    """None where it is not known how many blocks a multiprocessor takes.

    Args:
        threads: of a block.
        registers: of a thread.
        shared_bytes: of a block, static and dynamic.
    """
    number = int(target.removeprefix("sm_"))
    if number not in _BLOCKS:
        return None
    device = properties(target, 0)
    most_warps = device.max_threads_per_multi_processor // WARP
    warps = -(-threads // WARP)
    per_warp = _up(max(registers, 1) * WARP, _UNIT)
    by_registers = REGISTERS // _SCHEDULERS // per_warp * _SCHEDULERS // _up(warps, _SCHEDULERS)
    old = number < 80
    shared = _up(shared_bytes + (0 if old else _RESERVED), 256 if old else 128)
    limits = {
        "warps": most_warps // warps,
        "blocks": _BLOCKS[number],
        "registers": by_registers,
        "shared memory": device.shared_memory_per_multiprocessor // shared if shared else _BLOCKS[number],
    }
    blocks = min(limits.values())
    limit = next(name for name, count in limits.items() if count == blocks)
    return Occupancy(blocks, blocks * warps, most_warps, limit)


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit
