"""NVIDIA's GPUs, as torch has them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from precision_lab.devices.base import Check, Device
from precision_lab.exceptions import UsageError, first_line

# What errors say that leave a CUDA context of no use: every later call in the process fails too.
_LOST = (
    "illegal memory access", "misaligned address", "illegal instruction", "unspecified launch failure",
    "device-side assert", "illegal address", "hardware stack error", "invalid program counter",
    "operation not supported on global/shared address space", "launch timed out", "uncorrectable ECC",
    "CUDA_ERROR_ILLEGAL", "CUDA_ERROR_MISALIGNED", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR", "CUDA_ERROR_INVALID_PC", "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_LAUNCH_TIMEOUT", "CUDA_ERROR_ECC_UNCORRECTABLE",
)  # fmt: skip
# The stream is kept busy for so long until the host has launched what is timed.
HEAD_START_CYCLES = 2_000_000


class Cuda(Device):
    kind = "cuda"
    spelling = "'cuda' or 'cuda:N'"
    title = "a GPU"
    platform = "cuda"
    is_accelerator = True

    @classmethod
    def understands(cls, name: str) -> bool:
        kind, colon, index = name.partition(":")
        return kind == cls.kind and (not colon or index.isdigit())

    def require(self) -> None:
        """A kernel that does not ask where its tensors are is launched on the current device, and so are the
        events that time it.
        """
        import torch

        index = self.name.partition(":")[2]
        if not torch.cuda.is_available():
            built = "torch sees none" if torch.version.cuda else "this build of torch has no CUDA"
            raise UsageError(
                f"device={self.name!r}: no CUDA device, {built}; device='sm_90' needs none: it is emulated"
            )
        if index and int(index) >= torch.cuda.device_count():
            raise UsageError(f"device={self.name!r}: there are {torch.cuda.device_count()} CUDA devices")
        torch.cuda.init()  # type: ignore[no-untyped-call]
        if index:
            torch.cuda.set_device(int(index))

    def model(self) -> str:
        import torch

        return torch.cuda.get_device_name(self.torch)

    def capability(self) -> tuple[int, int]:
        import torch

        return torch.cuda.get_device_capability(self.torch)

    def synchronize(self) -> None:
        import torch

        torch.cuda.synchronize(self.torch)

    def is_lost(self, error: BaseException) -> bool:
        words = str(error)
        return isinstance(error, RuntimeError) and "CUDA" in words and any(lost in words for lost in _LOST)

    def free_bytes(self) -> int:
        import torch

        return int(torch.cuda.mem_get_info(self.torch)[0])

    def release_memory(self) -> None:
        import torch

        torch.cuda.empty_cache()

    def peak_mebibytes(self, work: Callable[[], object]) -> float:
        import torch

        before = torch.cuda.memory_allocated(self.torch)
        torch.cuda.reset_peak_memory_stats(self.torch)
        work()
        return float(torch.cuda.max_memory_allocated(self.torch) - before) / 2**20

    def seconds(self, work: Callable[[], Any]) -> float:
        """Between two events on its stream, which is kept busy until the host has launched what comes between
        them.
        """
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    @classmethod
    def checks(cls) -> Sequence[Check]:
        """What the GPU at hand can do; its clocks are read, never set."""
        import torch

        if not torch.cuda.is_available():
            return [Check("CUDA device", None, "none")]
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        capability = (found.major, found.minor)
        flush = bool((torch.full((64,), 2.0**-149, device=cls.kind) * 2.0**100 == 0).any())
        free, total = torch.cuda.mem_get_info()
        features = [
            name
            for name, least in (
                ("bf16", (8, 0)), ("FP8 conversions", (8, 9)), ("FP8 matrix products", (8, 9))
            )
            if capability >= least
        ]  # fmt: skip
        return [
            Check("CUDA device", None, f"{found.name}, compute capability {found.major}.{found.minor}"),
            Check("CUDA device features", None, ", ".join(features) or "neither bf16 nor FP8"),
            Check("CUDA memory", None, f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f}"),
            Check("CUDA keeps subnormals", not flush, "flushes inputs" if flush else "kept"),
            Check(
                "CUDA TF32", None,
                f"matrix products {_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul)}, "
                f"convolutions {_tf32(getattr(torch.backends.cudnn, 'conv', None), torch.backends.cudnn)}",
            ),
            Check("CUDA clocks", None, _clocks()),
        ]  # fmt: skip

    @classmethod
    def environment(cls) -> dict[str, str]:
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # a kernel may have destroyed the device's context
                return _environment(torch.cuda.current_device())
        return {}


@lru_cache(maxsize=8)
def _environment(index: int) -> dict[str, str]:
    import torch

    found = torch.cuda.get_device_properties(index)
    return {
        "gpu": f"{found.name}, compute capability {found.major}.{found.minor}",
        "cuda": str(torch.version.cuda),
    }


def _tf32(switches: Any, legacy: Any) -> str:
    """Whether a backend may use TF32: by its own switch, or where torch has none, by the legacy one.

    The legacy one raises once the other was set.
    """
    try:
        precision = getattr(switches, "fp32_precision", None)
        allowed = legacy.allow_tf32 if precision is None else precision == "tf32"
    except RuntimeError as error:
        return f"not readable ({first_line(error)[:60]})"
    return "on" if allowed else "off"


def _clocks() -> str:
    import torch

    try:
        return f"{torch.cuda.clock_rate()} MHz now, not touched"
    except Exception:  # NVML's wrapper is missing, or not allowed: that is no failure of the device
        return "not readable, not touched"


CUDA = Cuda("cuda")
