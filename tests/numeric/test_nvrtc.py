"""CUDA C++ compiled at run time, and what its kernels are handed; without a GPU."""

from __future__ import annotations

import re
import types
from typing import Any

import pytest
import torch

from precision_lab.exceptions import KernelError
from precision_lab.implementations import cuda
from precision_lab.numeric import nvrtc


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda-bindings imports without the library it binds, and says so at the first call only."""

    def create(*arguments: object) -> None:
        raise RuntimeError("Failure finding libnvrtc.so\nin a dozen places")

    fake = types.SimpleNamespace(nvrtcCreateProgram=create)
    monkeypatch.setattr(nvrtc, "_bindings", lambda: (None, fake))
    with pytest.raises(ImportError, match=r"needs NVIDIA's libnvrtc.*\(Failure finding libnvrtc.so\)"):
        nvrtc.compile_cubin("", "empty.cu", "sm_90")


def test_a_kernel_without_the_compiler_is_a_named_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise ImportError("no libnvrtc")

    monkeypatch.setattr(cuda, "CudaProgram", missing)
    with pytest.raises(KernelError, match="no libnvrtc") as caught:
        cuda._program.__wrapped__(torch.device("cuda"), False)
    assert caught.value.kind == "missing_dependency"


@pytest.mark.parametrize("form", ["packed", "naive"])
@pytest.mark.parametrize("n", [1000, 1001])
@pytest.mark.parametrize("each", [False, True])
def test_packed_kernels_read_and_write_whole_pairs(
    form: str, n: int, each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view may begin in the middle of a pair: reading one there ends the CUDA context."""
    seen: list[tuple[list[torch.Tensor], int]] = []

    class Program:
        def launch(self, name: str, blocks: int, threads: int, arguments: list[Any]) -> None:
            seen.append(([a for a in arguments if isinstance(a, torch.Tensor)], arguments[-1]))

    monkeypatch.setattr(cuda, "_program", lambda device, fast: Program())
    x, upstream, parameter = (torch.randn(n + 1).bfloat16()[1:].requires_grad_() for _ in range(3))
    one = torch.ones((), dtype=torch.bfloat16)
    y = cuda._kernel(form, False, x, alpha_p=parameter if each else one, alpha_n=one, beta=one)
    (dx,) = torch.autograd.grad(y, x, upstream.detach())
    assert y.shape == dx.shape == x.shape and len(seen) == 2
    group = 2 if form == "packed" else 1
    for tensors, count in seen:
        assert count == -(-n // group)
        for t in tensors:
            assert t.data_ptr() % (group * t.itemsize) == 0
            assert t.numel() in (group, group * count)
    if form == "naive" and not each:
        assert seen[0][0][0].data_ptr() == x.data_ptr()  # nothing is copied that need not be


def test_no_packed_operation_may_be_contracted() -> None:
    """The compiler fuses the products and sums of cuda_fp16.h unless their names end in _rn."""
    text = cuda.source()
    packed = text[text.index("#define PACKED") :]
    found = re.findall(r"__h(?:mul|add|sub)2(\w*)\(", packed)
    assert len(found) > 10 and set(found) == {"_rn"}
    assert "fma" not in packed
