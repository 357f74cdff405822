"""Where kernels run: wrong devices, missing features, lost contexts; all without a GPU."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from by_name import as_implementation, get_implementation, measure_all, measure_reductions
from typer.testing import CliRunner

import precision_lab
from precision_lab.cli.main import app
from precision_lab.devices import CPU, CUDA, Device, Emulated, get_device, usable_device
from precision_lab.devices import cuda as cuda_device
from precision_lab.exceptions import DeviceLostError, KernelError
from precision_lab.formats import E4M3
from precision_lab.implementations import IMPLEMENTATIONS, transformer_engine
from precision_lab.running.placement import context_is_lost, on_device, require_capability
from precision_lab.system.extras import install_line
from precision_lab.verifying.verify import verify

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "mps", ""])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=r"expected 'cpu', 'cuda' or 'cuda:N'"):
        usable_device(device)


@NO_GPU
@pytest.mark.parametrize(
    "command",
    [
        ["verify", "naive", "--function", "xielu"],
        ["report", "--quick"],
        ["sweep", "xielu", "--implementation", "naive", "--format", "bf16"],
        ["explain", "xielu", "--bits", "0xbf80"],
    ],
    ids=lambda c: c[0],
)
def test_no_cuda_is_said_in_one_sentence(command: list[str], tmp_path: Path) -> None:
    if command[0] == "report":
        command = [*command, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*command, "--device", "cuda"])
    assert result.exit_code == 2
    assert "device='cuda': no CUDA device" in result.output
    assert result.output.count("\n") == 1


@NO_GPU
def test_measure_names_the_device() -> None:
    with pytest.raises(ValueError, match=r"device='cuda': no CUDA device"):
        precision_lab.measure("naive", "xielu", device="cuda")


def test_a_numbered_device_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not ask where its tensors are is launched on the current device."""
    chosen: list[int] = []
    for name, fake in (
        ("is_available", lambda: True), ("device_count", lambda: 2), ("init", lambda: None),
        ("set_device", chosen.append),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    assert [usable_device(d).name for d in ("cuda", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]
    assert chosen == [1]
    with pytest.raises(ValueError, match="there are 2 CUDA devices"):
        usable_device("cuda:2")


def test_what_is_kept_of_a_gpu_is_of_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.running import selfcheck
    from precision_lab.scoring import cuda_scorer

    current = [0]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(
        torch.cuda, "get_device_properties",
        lambda index: types.SimpleNamespace(name=f"GPU {index}", major=9, minor=0),
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(cuda_scorer, "CudaProgram", lambda source, name, device: str(device))
    cuda_scorer._compiled.cache_clear()
    cuda_device._environment.cache_clear()
    try:
        for current[0] in (0, 1, 0):
            assert selfcheck.environment()["gpu"] == f"GPU {current[0]}, compute capability 9.0"
            assert cuda_scorer.program_on(torch.device("cuda")) == f"cuda:{current[0]}"
        assert cuda_scorer.program_on(torch.device("cuda:1")) == "cuda:1"
    finally:
        cuda_scorer._compiled.cache_clear()
        cuda_device._environment.cache_clear()


def test_a_gpu_kernel_does_not_run_on_the_cpu() -> None:
    triton = get_implementation("xielu", "naive", "triton")
    with pytest.raises(ValueError, match=r"naive \[triton\] runs on cuda, and device='cpu' was asked for"):
        on_device(triton, CPU)
    with pytest.raises(ValueError, match="runs on cuda"):
        verify("packed [cuda]", "xielu")


def test_every_gpu_implementation_says_so() -> None:
    for i in IMPLEMENTATIONS.values():
        # Settings of Inductor's are registered for what it makes of a kernel for a GPU.
        alone = i.execution.name in ("triton", "cuda", "te") or bool(i.inductor)
        assert (i.devices == (CUDA,)) == alone, i.label


def test_an_old_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    te = dataclasses.replace(get_implementation("silu", "transformer-engine to e4m3", "te"), device=CUDA)
    with pytest.raises(KernelError, match=r"needs compute capability 8.9; this device has 7.5") as caught:
        require_capability(te)
    assert caught.value.kind == "unsupported_device"
    for capability in ((8, 9), (9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None, c=capability: c)
        require_capability(te)


LOST = "CUDA error: an illegal memory access was encountered"


def test_lost_contexts_are_told_from_other_errors() -> None:
    assert context_is_lost(RuntimeError(LOST))
    assert context_is_lost(RuntimeError("CUDA error: CUDA_ERROR_ILLEGAL_ADDRESS (700)"))
    for said in (
        "operation not supported on global/shared address space", "the launch timed out and was terminated",
        "CUDA_ERROR_HARDWARE_STACK_ERROR (714)", "CUDA_ERROR_INVALID_PC (718)",
    ):  # fmt: skip
        assert context_is_lost(RuntimeError(f"CUDA error: {said}")), said
    assert not context_is_lost(RuntimeError("CUDA error: invalid argument"))
    assert not context_is_lost(ValueError(LOST))


def test_a_lost_context_ends_the_measurement_in_this_process() -> None:
    def kernel(x: torch.Tensor, *, alpha_p: object, alpha_n: object, beta: object) -> torch.Tensor:
        raise RuntimeError(LOST)

    with pytest.raises(DeviceLostError, match=r"kernel \[eager\] destroyed the CUDA context"):
        precision_lab.measure(kernel, "xielu")
    with pytest.raises(DeviceLostError, match=r"xielu kernel \[eager\] destroyed the CUDA context"):
        measure_reductions(as_implementation(kernel, "xielu", ("bf16",)), "bf16")


def test_a_summed_gradient_needs_a_gpu_that_can_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(x: torch.Tensor, *, alpha_p: object, alpha_n: object, beta: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    packed = dataclasses.replace(as_implementation(kernel, "xielu", ("bf16",)), capability=(8, 0))
    assert {r.failure.kind for r in measure_reductions(packed, "bf16") if r.failure} == {"out_of_memory"}
    packed = dataclasses.replace(packed, device=CUDA)
    assert {r.failure.kind for r in measure_reductions(packed, "bf16") if r.failure} == {"unsupported_device"}


KERNEL = f'''
import torch
def bad(x, alpha_p, alpha_n, beta):
    if x.dtype == torch.float16:
        raise RuntimeError("{LOST}")
    return torch.where(x > 0, alpha_p * x * x + beta * x,
                       alpha_n * torch.expm1(x.clamp(max=0)) - alpha_n * x + beta * x)
'''


def test_isolation_recovers_from_a_lost_context_and_goes_on(tmp_path: Path) -> None:
    """What a GPU's driver says is raised here by hand; the process is given up and a new one goes on."""
    (tmp_path / "lost.py").write_text(KERNEL)
    verdict = verify(
        f"{tmp_path / 'lost.py'}:bad", "xielu", fmts=("fp16", "bf16"), outputs=("forward",), max_ulp=4,
        properties=False, params={},
    )  # fmt: skip
    by_format = {m.fmt: m for m in verdict.measurements}
    assert by_format["fp16"].failure is not None
    assert by_format["fp16"].failure.kind == "crashed"
    assert "destroyed the CUDA context" in by_format["fp16"].failure.message
    assert by_format["bf16"].failure is None and by_format["bf16"].n_inputs == 65536


def test_without_isolation_a_lost_context_is_a_crash_and_what_was_measured_is_kept() -> None:
    def kernel(x: torch.Tensor, *, alpha_p: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float16:
            raise RuntimeError(LOST)
        return naive.kernel(x, alpha_p=alpha_p, **others)

    naive = get_implementation("xielu", "naive")
    verdict = verify(
        kernel, "xielu", fmts=("bf16", "fp16", "fp32"), outputs=("forward", "grad_x"), properties=False,
        params={},
    )  # fmt: skip
    found = [(m.fmt, m.output, m.failure.kind if m.failure else "") for m in verdict.measurements]
    assert found == [
        ("bf16", "forward", ""), ("bf16", "grad_x", ""), ("fp16", "forward", "crashed"),
        ("fp16", "grad_x", "crashed"), ("fp32", "forward", "device_lost"), ("fp32", "grad_x", "device_lost"),
    ]  # fmt: skip
    assert not verdict.passed and verdict.measurements[0].n_inputs == 65536
    assert any("fp16" in f and "kernel [eager] destroyed the CUDA context" in f for f in verdict.failures)


def test_on_a_gpu_registered_names_have_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.verifying import verify as doors

    asked: list[tuple[str, str]] = []

    def events(plan: object, target: str, *, device: Device, **options: object) -> list[object]:
        asked.append((target, device.name))
        return []

    monkeypatch.setattr(cuda_device.Cuda, "require", lambda self: None)
    monkeypatch.setattr(doors, "isolated_events", events)
    verify("naive [triton]", "xielu", device="cuda:1", properties=False)
    assert asked == [("naive [triton]", "cuda:1")]
    verify("naive", "xielu", fmts=("bf16",), outputs=("forward",), properties=False)
    assert len(asked) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="may be installed here")
def test_transformer_engine_is_missed_by_name() -> None:
    with pytest.raises(KernelError, match=re.escape(install_line("te"))) as caught:
        transformer_engine.library()
    assert caught.value.kind == "missing_dependency"


class _FakeTE(types.ModuleType):
    """Its calling conventions, with torch behind them: kernels take (x, quantizer), rows and halves."""

    @staticmethod
    def silu(x: torch.Tensor, quantizer: object) -> torch.Tensor:
        return torch.nn.functional.silu(x)

    @staticmethod
    def dsilu(dy: torch.Tensor, x: torch.Tensor, quantizer: object) -> torch.Tensor:
        s = torch.sigmoid(x.float())
        return (dy.float() * s * (1 + x.float() * (1 - s))).to(x.dtype)

    @classmethod
    def swiglu(cls, x: torch.Tensor, quantizer: object) -> torch.Tensor:
        a, b = x.chunk(2, dim=-1)
        return cls.silu(a, None) * b

    @classmethod
    def dswiglu(cls, dy: torch.Tensor, x: torch.Tensor, quantizer: object) -> torch.Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat([cls.dsilu(dy * b, a, None), dy * cls.silu(a, None)], dim=-1)


@pytest.mark.parametrize("function", ["silu", "swiglu"])
def test_transformer_engines_adapter_speaks_its_conventions(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer_engine, "library", lambda: _FakeTE("fake"))
    te = dataclasses.replace(get_implementation(function, "transformer-engine", "te"), devices=(CPU,))
    for m in measure_all(te, te.measured_outputs(), "fp32", inputs="stratified:20"):
        assert m.failure is None, m.failure
        assert m.regions["positive"].max_ulp < 8, (m.case, m.max_ulp)


@pytest.mark.parametrize(
    ("kind", "square", "shape"), [("current", False, ()), ("block", False, (200, 2)), ("block", True, (2, 2))]
)
def test_its_quantizers_padded_scales_are_cut_to_the_matrix(
    kind: str, square: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quantizer:
        """Its conventions: scales padded to multiples of 4, and of 1×128 blocks transposed."""

        def __init__(self, dtype: object, device: object = None, **options: object) -> None:
            assert dtype == "E4M3" and options["rowwise"] and not options["columnwise"]

        def __call__(self, x: torch.Tensor) -> types.SimpleNamespace:
            scales = torch.ones(2, 4) if square else torch.ones(2, 200)
            codes = torch.zeros(x.shape, dtype=torch.uint8)
            return types.SimpleNamespace(
                _data=codes, _scale_inv=torch.ones(1), _rowwise_data=codes, _rowwise_scale_inv=scales
            )

    library = types.SimpleNamespace(DType=types.SimpleNamespace(kFloat8E4M3="E4M3"))
    monkeypatch.setattr(transformer_engine, "library", lambda: library)
    home = "transformer_engine.pytorch.tensor"
    for part in ("transformer_engine", "transformer_engine.pytorch", home):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    for part, name in (("float8_tensor", "Float8CurrentScalingQuantizer"),
                       ("float8_blockwise_tensor", "Float8BlockQuantizer")):  # fmt: skip
        module = types.ModuleType(f"{home}.{part}")
        setattr(module, name, Quantizer)
        monkeypatch.setitem(sys.modules, f"{home}.{part}", module)
    codes, decode = transformer_engine.quantize(torch.ones(200, 256), E4M3, kind, square=square)
    assert (codes.shape, decode.shape) == ((200, 256), shape)
    with pytest.raises(ValueError, match="kind='rows'"):
        transformer_engine.quantize(torch.ones(2, 2), E4M3, "rows")


def test_what_the_emulated_gpu_lacks_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precision_lab.devices.emulated.is_installed", lambda module: module != "triton")
    (check,) = Emulated.checks()
    assert check.detail.endswith(f"kernels that need triton do not run; {install_line('emulated')}")


@pytest.mark.parametrize(
    ("name", "meant"), [("sm90", "sm_90"), ("H100", "sm_90"), ("gpu", "cuda, sm_90"), ("cpus", "cpu, cuda")]
)
def test_a_device_that_there_is_not_is_answered_with_the_near_one(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"device='{name}': expected .*; did you mean {meant}\?$"):
        get_device(name)
