"""CUDA C++ compiled at run time, and what its kernels are handed; without a GPU."""

from __future__ import annotations

import re
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from host_gpu import HostGpu, host_gpu  # noqa: F401  (a fixture)

from precision_lab.emulator.parser import parse
from precision_lab.exceptions import KernelError, MissingPackageError
from precision_lab.implementations import cuda, cuda_program
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

    monkeypatch.setattr(cuda, "program", missing)
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
    y = cuda.kernel(form, False, x, alpha_p=parameter if each else one, alpha_n=one, beta=one)
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


needs_compiler = pytest.mark.skipif(find_spec("cuda") is None, reason="no cuda-bindings")
NARROW = """#include <cuda_bf16.h>
#include <cuda_fp16.h>
extern "C" __global__ void narrow(const float* x, __nv_bfloat16* y, __half* z) {
    y[0] = __float2bfloat16_rn(x[0]);
    z[0] = __float2half_rn(x[0]);
}
"""


@needs_compiler
def test_ptx_says_which_line_an_instruction_comes_from() -> None:
    kernel = parse(nvrtc.compile_ptx(NARROW, "narrow.cu", "sm_90")).kernels["narrow"]
    conversions = {
        i.name: str(i.place) for i in kernel.instructions if i.opcode == "cvt" and "rn" in i.modifiers
    }
    assert set(conversions) == {"cvt.rn.bf16.f32", "cvt.rn.f16.f32"}
    assert any(str(i.place) == "narrow.cu:4" for i in kernel.instructions)
    assert any(str(i.place) == "narrow.cu:5" for i in kernel.instructions)


@needs_compiler
def test_the_headers_that_triton_brings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only Python packages are installed, and no CUDA toolkit."""
    pytest.importorskip("triton")
    spec = find_spec("triton")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "backends/nvidia/include"
    monkeypatch.setattr(nvrtc, "_header_folders", lambda: (folder,))
    for target in ("sm_80", "sm_90", "sm_100"):
        assert f".target {target}" in nvrtc.compile_ptx(cuda.source(), "activations.cu", target)


@needs_compiler
def test_missing_headers_are_named_with_the_package_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_header_folders", lambda: (Path("/nowhere"),))
    with pytest.raises(MissingPackageError, match=r"cuda_bf16.h.*pip install nvidia-cuda-runtime"):
        nvrtc.compile_ptx(NARROW, "narrow.cu", "sm_90")
    assert "narrow" in nvrtc.compile_ptx("__global__ void narrow() {}", "narrow.cu", "sm_90")


@needs_compiler
def test_where_the_toolkit_is_can_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_fp16.h").write_text("#define OWN 1\n")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    nvrtc._header_folders.cache_clear()
    try:
        text = '#include <cuda_fp16.h>\nextern "C" __global__ void k(int* x) { x[0] = OWN; }'
        assert "k" in parse(nvrtc.compile_ptx(text, "k.cu", "sm_90")).kernels
    finally:
        nvrtc._header_folders.cache_clear()


@needs_compiler
def test_the_machine_code_of_compiled_ptx_is_the_same_source_s() -> None:
    ptx = nvrtc.compile_ptx(NARROW, "narrow.cu", "sm_90", ("--fmad=true",))
    cubin = nvrtc.machine_code_of(ptx)
    assert cubin is not None and cubin[:4] == b"\x7fELF"
    assert nvrtc.machine_code_of(ptx + " ") is None


@needs_compiler
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("form", ["naive", "expm1", "packed"])
def test_the_lab_s_own_kernels_are_executed_as_their_ptx(
    form: str,
    fast: bool,
    host_gpu: HostGpu,  # noqa: F811
) -> None:
    """Forward and backward, an odd number of elements, against torch's float64."""
    cuda._program.cache_clear()
    x = torch.linspace(-4, 4, 77).bfloat16().requires_grad_()
    leaves = {
        n: torch.tensor(v).bfloat16().requires_grad_() for n, v in (("alpha_p", 0.75), ("alpha_n", 0.5))
    }
    beta = torch.tensor(0.25).bfloat16()
    y = cuda.kernel(form, fast, x, **leaves, beta=beta)
    found = torch.autograd.grad(y.sum(), [x, *leaves.values()])
    cuda._program.cache_clear()
    wide = x.detach().double().requires_grad_()
    p, n = (leaf.detach().double().requires_grad_() for leaf in leaves.values())
    exact = torch.where(wide > 0, p * wide**2, n * (torch.expm1(wide) - wide)) + 0.25 * wide
    gradients = torch.autograd.grad(exact.sum(), [wide, p, n])
    # Packed arithmetic rounds every operation to 8 bits, of intermediate values up to 16.
    allowed = 2.0**-4 if form == "packed" else 2.0**-5
    assert float((y - exact).detach().abs().max()) <= allowed
    assert float((found[0] - gradients[0]).abs().max()) <= allowed
    # Sums of 77 terms up to 16 in bf16, each addition rounded to 8 bits.
    for ours, theirs in zip(found[1:], gradients[1:], strict=True):
        assert abs(float(ours) - float(theirs)) < 0.05 * float(theirs)
    assert [name for name, _, _ in host_gpu.launched] == [f"{form}_bf16_forward", f"{form}_bf16_backward"]


def test_a_real_device_takes_machine_code_and_an_emulated_one_ptx(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def recording(kind: str) -> type:
        return type(kind, (), {"__init__": lambda self, *arguments: made.append(kind)})

    monkeypatch.setattr(cuda_program, "CudaProgram", recording("real"))
    monkeypatch.setattr(cuda_program, "EmulatedProgram", recording("emulated"))
    for emulated in (False, True):
        monkeypatch.setattr(cuda_program, "is_emulated", lambda emulated=emulated: emulated)
        cuda_program.program("", "k.cu", torch.device("cuda"))
    assert made == ["real", "emulated"]
