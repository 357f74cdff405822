"""The processor that Python runs on."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

from precision_lab.devices.base import Device


class Cpu(Device):
    kind = "cpu"
    spelling = "'cpu'"
    title = "a CPU"

    def peak_mebibytes(self, work: Callable[[], object]) -> float:
        """As torch's allocator tells its profiler: what other libraries take is not in it."""
        try:
            # The profiler that took its place writes to stderr whenever it starts and ends.
            profiler: Any = importlib.import_module("torch.autograd.profiler_legacy")
        except ImportError:
            return math.nan
        kept: list[int] = []
        profiler._enable_profiler_legacy(profiler.profile(profile_memory=True).config())
        try:
            work()
        finally:
            records = profiler._disable_profiler_legacy()
        for event in (event for thread in records for event in thread if event.kind() == "memory_alloc"):
            kept.append((kept[-1] if kept else 0) + event.cpu_memory_usage())
        return max(kept, default=0) / 2**20


CPU = Cpu("cpu")
