"""What a device of a compute capability says of itself.

Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; the number of
multiprocessors is that of the largest product, which kernels only use to choose how many blocks there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.exceptions import UsageError

# Of each: KiB of shared memory of a multiprocessor, threads of one, and multiprocessors.
_KNOWN = {
    75: (64, 1024, 72), 80: (164, 2048, 108), 86: (100, 1536, 84), 87: (164, 1536, 16), 88: (100, 1536, 16),
    89: (100, 1536, 142), 90: (228, 2048, 132), 100: (228, 2048, 148), 103: (228, 2048, 148),
    110: (228, 1536, 20), 120: (100, 1536, 188), 121: (100, 1536, 48),
}  # fmt: skip
_RESERVED = 1024  # bytes of shared memory that each block takes for the system


@dataclass(frozen=True)
class Properties:
    """As `torch.cuda.get_device_properties` gives them."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    max_threads_per_multi_processor: int
    shared_memory_per_multiprocessor: int
    shared_memory_per_block_optin: int
    shared_memory_per_block: int = 48 << 10
    regs_per_multiprocessor: int = 65536
    max_threads_per_block: int = 1024
    warp_size: int = 32
    L2_cache_size: int = 50 << 20
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    clock_rate: int = 1_980_000  # kHz
    memory_clock_rate: int = 2_619_000  # kHz
    memory_bus_width: int = 5120
    pci_bus_id: int = 0
    pci_device_id: int = 0
    pci_domain_id: int = 0
    gcnArchName: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"


def properties(target: str, memory: int) -> Properties:
    """Of a device such as "sm_90" with so many bytes of memory.

    Raises:
        ValueError: no compiler at hand knows the target.
    """
    digits = target.removeprefix("sm_")
    if target == digits or not digits.isdecimal() or int(digits) not in _KNOWN:
        known = ", ".join(f"sm_{number}" for number in _KNOWN)
        raise UsageError(f"device={target!r}: no compiler at hand knows it; emulated are {known}")
    shared, threads, processors = _KNOWN[int(digits)]
    one_block = (shared << 10) - (_RESERVED if int(digits) != 75 else 0)
    major, minor = divmod(int(digits), 10)
    return Properties(
        f"emulated {target}", major, minor, memory, processors, threads, shared << 10, one_block
    )
