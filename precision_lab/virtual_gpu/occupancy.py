"""How many warps of a kernel a multiprocessor holds at once.

Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" and "Hardware
Multithreading"; NVIDIA's `cuda_occupancy.h` for the units in which registers and shared memory are given
away. A test compares the two. Barriers that have numbers are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.emulator.launch import WARP
from precision_lab.virtual_gpu.properties import properties

REGISTERS = 65536  # of a multiprocessor
_UNIT = 256  # registers of a warp are given away in these
_SCHEDULERS = 4  # each has its own registers and warps
_RESERVED = 1024  # bytes of shared memory that the system takes of each block, from 8.0 on
# Blocks of a multiprocessor, by compute capability.
_BLOCKS = {
    75: 16, 80: 32, 86: 16, 87: 16, 88: 16, 89: 24, 90: 32, 100: 32, 103: 32, 110: 24, 120: 24, 121: 24
}  # fmt: skip


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
    by_registers = REGISTERS // _SCHEDULERS // per_warp * _SCHEDULERS // warps
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


def own_shared(target: str, listed: int) -> int:
    """Bytes of a block's static shared memory, of those that `cuobjdump` lists.

    From 9.0 on these are with what the system takes of every block, if the kernel has any; before, without.
    """
    return listed - _RESERVED if listed and int(target.removeprefix("sm_")) >= 90 else listed


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit
