"""What this process and machine do to floating point, before any number is printed."""

from __future__ import annotations

import os
import platform
import sys
import threading
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np

from precision_lab.devices import Check, kinds
from precision_lab.system import ieee
from precision_lab.system.extras import install_line

PACKAGES = (
    "precision_lab", "torch", "numpy", "numba", "mpmath", "gmpy2", "transformers", "python-flint", "triton",
    "cuda-bindings", "transformer-engine",
)  # fmt: skip


def _flushes_elsewhere() -> str:
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(ieee.flushes()))
    thread.start()
    thread.join()
    return result[0]


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
    flush, elsewhere = ieee.flushes(), _flushes_elsewhere()
    checks = [
        Check("subnormals are kept (main thread)", not flush, f"flushes {flush}" if flush else "kept"),
        Check(
            "subnormals are kept (new thread)", not elsewhere, f"flushes {elsewhere}" if elsewhere else "kept"
        ),
        Check("rounding is to nearest, ties to even", ieee.rounds_to_nearest(), ""),
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
    checks = [
        Check("torch keeps subnormals (worker threads)", not flush, f"flushes {flush}" if flush else "kept"),
        Check("torch float32 matmul precision", None, _matmul_precision()),
        Check("torch deterministic algorithms", None, str(torch.are_deterministic_algorithms_enabled())),
        Check("torch CPU capability", None, torch.backends.cpu.get_cpu_capability()),
        Check("torch threads", None, str(torch.get_num_threads())),
    ]
    return [*checks, *(found for kind in kinds() for found in kind.checks()), *_gpu_packages()]


def _matmul_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        # Since one backend's own switch was set, there is no answer for all of them.
        return f"CUDA: {torch.backends.cuda.matmul.fp32_precision}"


def _gpu_packages() -> list[Check]:
    """The optional packages that GPU subjects need."""
    checks = []
    for module, package, extra in (
        ("triton", "triton", "triton"),
        ("cuda.bindings", "cuda-bindings", "cuda"),
        ("transformer_engine", "transformer-engine", "te"),
    ):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            checks.append(Check(module, None, f"not installed; {install_line(extra)}"))
        else:
            checks.append(Check(module, None, version))
    return checks


def require_ieee(*, workers: bool = False) -> None:
    """Refuse to measure where subnormals are flushed or rounding is not to nearest.

    Args:
        workers: look at torch's worker threads too.

    Raises:
        EnvironmentAltersResultsError: names the switch that is usually responsible.
    """
    ieee.require()
    if workers and (flush := _torch_flushes()):
        raise ieee.flushing(flush)


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
        for kind in kinds():
            record |= kind.environment()
    record["flush to zero"] = ieee.flushes() or "off"
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
