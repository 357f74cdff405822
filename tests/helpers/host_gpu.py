"""A GPU for tests of what is handed to kernels: the reference engine, on tensors of the CPU."""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from precision_lab.emulator.launch import Launch
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.reference.engine import ReferenceEngine
from precision_lab.implementations import cuda_program
from precision_lab.implementations.adapters import cuda_kernel


class HostGpu:
    """Takes launches as `virtual_gpu.launching.execute` does.

    Attributes:
        launched: of each launch, the kernel's name, its blocks and its threads.
    """

    def __init__(self) -> None:
        self.launched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def execute(
        self, text: str, name: str, grid: Any, block: Any, arguments: Sequence[Any], shared_bytes: int
    ) -> None:
        self.launched.append((name, grid, block))
        kernel = parse(text).kernels[name]
        memory = Memory.reserve(1 << 26)
        copies: list[tuple[Tensor, int]] = []
        given = []
        for value, parameter in zip(arguments, kernel.parameters, strict=True):
            if isinstance(value, Tensor):
                assert value.is_contiguous()
                bits = value.detach().view(torch.uint8).numpy()
                address = memory.put(bits)
                copies.append((value.detach(), address))
                value = address
            if isinstance(value, ctypes._SimpleCData):
                raw = bytes(value)
            else:
                raw = int(value or 0).to_bytes(8, "little", signed=isinstance(value, int) and value < 0)
            assert len(raw) == parameter.size, (name, parameter, value)
            given.append(raw)
        ReferenceEngine().run(Launch(kernel, grid, block, tuple(given), shared_bytes), memory)
        for tensor, address in copies:
            # As a device writes: behind autograd's back.
            found = memory.get(address, np.uint8, tensor.nbytes)
            ctypes.memmove(tensor.data_ptr(), found.ctypes.data, tensor.nbytes)


@pytest.fixture
def host_gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    """Tensors of the CPU count as a GPU's of compute capability 9.0."""
    gpu = HostGpu()
    fake = types.ModuleType("precision_lab.virtual_gpu.launching")
    fake.execute = gpu.execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "precision_lab.virtual_gpu.launching", fake)
    for module in (cuda_program, cuda_kernel):
        monkeypatch.setattr(module, "is_emulated", lambda: True)
        monkeypatch.setattr(module, "architecture", lambda device: "sm_90")
    monkeypatch.setattr(cuda_kernel, "_require_cuda", lambda x, label: None)
    return gpu
