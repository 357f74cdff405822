"""Resident warps: known examples, and NVIDIA's own rules where their header is at hand."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from precision_lab.virtual_gpu.occupancy import occupancy, own_shared
from precision_lab.virtual_gpu.properties import properties

TARGETS = (
    "sm_75",
    "sm_80",
    "sm_86",
    "sm_87",
    "sm_88",
    "sm_89",
    "sm_90",
    "sm_100",
    "sm_103",
    "sm_110",
    "sm_120",
)


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "blocks", "warps", "limit"),
    [
        ("sm_90", 256, 32, 0, 8, 64, "warps"),
        ("sm_90", 256, 33, 0, 6, 48, "registers"),  # 40 of 65,536: 51 warps, 12 of each scheduler
        ("sm_90", 256, 64, 0, 4, 32, "registers"),
        ("sm_90", 256, 255, 0, 1, 8, "registers"),
        ("sm_90", 32, 16, 0, 32, 32, "blocks"),
        ("sm_90", 128, 16, 100 << 10, 2, 8, "shared memory"),
        ("sm_80", 1024, 32, 0, 2, 64, "warps"),
        ("sm_86", 1024, 32, 0, 1, 32, "warps"),
        ("sm_86", 256, 32, 0, 6, 48, "warps"),
        ("sm_75", 256, 32, 0, 4, 32, "warps"),
    ],
)
def test_known_examples(
    target: str, threads: int, registers: int, shared: int, blocks: int, warps: int, limit: str
) -> None:
    found = occupancy(target, threads, registers, shared)
    assert found is not None
    assert (found.blocks, found.warps, found.limit) == (blocks, warps, limit)
    assert found.share == warps / found.most_warps


def test_of_a_target_whose_limits_are_not_known_nothing_is_said() -> None:
    assert occupancy("sm_99", 256, 32, 0) is None


def test_what_the_system_takes_is_no_kernels() -> None:
    assert (
        own_shared("sm_90", 1088) == 64 and own_shared("sm_90", 0) == 0 and own_shared("sm_80", 1088) == 1088
    )


ASKED = """
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
    int major, minor, threads, registers, shared, warps, total, optin, reserved;
    while (scanf("%d %d %d %d %d %d %d %d %d", &major, &minor, &threads, &registers, &shared, &warps, &total,
                 &optin, &reserved) == 9) {
        cudaOccDeviceProp p = {};
        p.computeMajor = major; p.computeMinor = minor; p.maxThreadsPerBlock = 1024;
        p.maxThreadsPerMultiprocessor = warps * 32; p.regsPerBlock = p.regsPerMultiprocessor = 65536;
        p.warpSize = 32; p.sharedMemPerBlock = 49152; p.sharedMemPerMultiprocessor = total;
        p.numSms = 1; p.sharedMemPerBlockOptin = optin; p.reservedSharedMemPerBlock = reserved;
        cudaOccFuncAttributes a = {};
        a.maxThreadsPerBlock = 1024; a.numRegs = registers; a.sharedSizeBytes = 0;
        a.partitionedGCConfig = PARTITIONED_GC_OFF; a.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        a.maxDynamicSharedSizeBytes = optin; a.numBlockBarriers = 0;
        cudaOccDeviceState s = {};
        s.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult r;
        cudaOccError e = cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &a, &s, threads, shared);
        printf("%d\\n", e == CUDA_OCC_SUCCESS ? r.activeBlocksPerMultiprocessor : -1);
    }
}
"""


def header() -> Path | None:
    for package, inside in (("triton", "backends/nvidia/include"), ("nvidia", "cu13/include")):
        found = find_spec(package)
        for place in (found.submodule_search_locations or ()) if found else ():
            if (Path(place) / inside / "cuda_occupancy.h").is_file():
                return Path(place) / inside
    return None


def test_nvidias_own_rules_say_the_same(tmp_path: Path) -> None:
    folder, compiler = header(), shutil.which("c++")
    if folder is None or compiler is None:
        pytest.skip("no cuda_occupancy.h" if folder is None else "no C++ compiler")
    (tmp_path / "asked.cpp").write_text(ASKED)
    command = [compiler, "-w", f"-I{folder}", "-o", str(tmp_path / "asked"), str(tmp_path / "asked.cpp")]
    subprocess.run(command, check=True)
    grid = list(
        itertools.product(TARGETS, (32, 96, 128, 224, 256, 1024), (16, 32, 33, 40, 57, 64, 100, 168, 255),
                          (0, 1000, 12_345, 30_000))
    )  # fmt: skip
    lines = []
    for target, threads, registers, shared in grid:
        p = properties(target, 0)
        reserved = 0 if target == "sm_75" else 1024
        lines.append(
            f"{p.major} {p.minor} {threads} {registers} {shared} {p.max_threads_per_multi_processor // 32} "
            f"{p.shared_memory_per_multiprocessor} {p.shared_memory_per_block_optin} {reserved}"
        )
    ran = subprocess.run(
        [str(tmp_path / "asked")], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    said = [int(line) for line in ran.stdout.split()]
    ours = [found.blocks for case in grid if (found := occupancy(*case)) is not None]
    differing = [(c, a, b) for c, a, b in zip(grid, said, ours, strict=True) if a != b]
    assert len(said) == len(grid) and not differing, differing[:10]
