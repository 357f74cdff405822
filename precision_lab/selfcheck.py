"""What this process and machine do to floating point, before any number is printed."""

from __future__ import annotations

import os
import platform
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np

from precision_lab.exceptions import EnvironmentAltersResultsError

PACKAGES = (
    "precision_lab", "torch", "numpy", "numba", "mpmath", "gmpy2", "transformers", "python-flint"
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One property of the environment; `ok` is None where it is only recorded."""

    name: str
    ok: bool | None
    detail: str


def _flushes() -> str:
    """Which of numpy's operations flush subnormals in this thread: "", "outputs", "inputs" or both."""
    smallest = np.array([2.0**-1022])
    tiny = np.array([2.0**-1074])
    found = []
    if (smallest / 2)[0] == 0.0:
        found.append("outputs")
    # A subnormal input read as zero gives 0; adding keeps the result itself normal.
    if (tiny * 2.0**1000)[0] == 0.0:
        found.append("inputs")
    return " and ".join(found)


def _flushes_elsewhere() -> str:
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(_flushes()))
    thread.start()
    thread.join()
    return result[0]


def _rounds_to_nearest() -> bool:
    one, half_ulp = np.array([1.0]), np.array([2.0**-53])
    # 1 + 2^-53 is a tie that goes down to even, 1 + 3·2^-53 one that goes up; both only to nearest.
    return bool((one + half_ulp)[0] == 1.0 and (one + 3 * half_ulp)[0] == 1.0 + 2.0**-51)


def _numpy_contracts() -> bool:
    """Whether numpy fuses a·b + c: then (1+2^-30)² − (1+2^-29) would keep its last bit, 2^-60."""
    a = np.full(64, 1.0 + 2.0**-30)
    c = np.full(64, -(1.0 + 2.0**-29))
    return bool((a * a + c).any())


def _torch_flushes() -> str:
    """What torch's own operations flush, over a tensor large enough to use its worker threads."""
    import torch

    found = []
    if bool((torch.full((1 << 18,), 2.0**-126) / 2 == 0).any()):
        found.append("outputs")
    # A subnormal operand read as zero gives 0; the product itself is normal.
    if bool((torch.full((1 << 18,), 2.0**-149) * 2.0**100 == 0).any()):
        found.append("inputs")
    return " and ".join(found)


def check(*, with_torch: bool = True) -> list[Check]:
    """Every check; a failed one (`ok` False) would change measured numbers."""
    flush, elsewhere = _flushes(), _flushes_elsewhere()
    checks = [
        Check("subnormals are kept (main thread)", not flush, f"flushes {flush}" if flush else "kept"),
        Check(
            "subnormals are kept (new thread)", not elsewhere, f"flushes {elsewhere}" if elsewhere else "kept"
        ),
        Check("rounding is to nearest, ties to even", _rounds_to_nearest(), ""),
        Check("numpy does not contract a*b+c", not _numpy_contracts(), ""),
        Check(
            "python float is IEEE binary64", sys.float_info.mant_dig == 53, f"{sys.float_info.mant_dig} bits"
        ),
    ]
    if with_torch:
        checks += _torch_checks()
    return checks


def _torch_checks() -> list[Check]:
    try:
        import torch
    except ImportError:
        return [Check("torch", None, "not installed: kernels cannot be run")]
    flush = _torch_flushes()
    precision = torch.get_float32_matmul_precision()
    cuda = torch.cuda.is_available()
    checks = [
        Check("torch keeps subnormals (worker threads)", not flush, f"flushes {flush}" if flush else "kept"),
        Check("torch float32 matmul precision", None, precision),
        Check("torch deterministic algorithms", None, str(torch.are_deterministic_algorithms_enabled())),
        Check("torch CPU capability", None, torch.backends.cpu.get_cpu_capability()),
        Check("torch threads", None, str(torch.get_num_threads())),
    ]
    if cuda:
        major, minor = torch.cuda.get_device_capability()
        tf32 = torch.backends.cuda.matmul.allow_tf32
        checks.append(
            Check(
                "CUDA device",
                None,
                f"{torch.cuda.get_device_name()}, compute {major}.{minor}, TF32 matmul {tf32}",
            )
        )
    else:
        checks.append(Check("CUDA device", None, "none"))
    return checks


def require_ieee(*, workers: bool = False) -> None:
    """Refuse to measure where subnormals are flushed or rounding is not to nearest.

    Args:
        workers: look at torch's worker threads too.

    Raises:
        EnvironmentAltersResultsError: names the switch that is usually responsible.
    """
    flush = _flushes() or (_torch_flushes() if workers else "")
    if flush:
        raise EnvironmentAltersResultsError(
            f"this process flushes subnormal {flush} to zero; torch.set_flush_denormal(True) or a library "
            "built with fast-math switched it on. Call torch.set_flush_denormal(False) and measure again"
        )
    if not _rounds_to_nearest():
        raise EnvironmentAltersResultsError(
            "this process does not round to nearest; restore the rounding mode"
        )


@lru_cache(maxsize=1)
def _static_environment() -> dict[str, str]:
    record = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": str(os.cpu_count()),
    }
    for package in PACKAGES:
        try:
            record[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return record


def environment() -> dict[str, str]:
    """Versions, processor and switches that a result depends on; no paths, no names of people."""
    record = dict(_static_environment())
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        record["torch threads"] = str(torch.get_num_threads())
        record["torch CPU capability"] = torch.backends.cpu.get_cpu_capability()
    record["flush to zero"] = _flushes() or "off"
    return record


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or "unknown"
