"""A kernel that was run in the wrong way is told the right one, in its finding and what is made of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import emulation
import pytest
import torch

from precision_lab import verify
from precision_lab.functions import SILU
from precision_lab.implementations.adapters.foreign import foreign_hint
from precision_lab.results import Finding, hints
from precision_lab.results.codes import CODES, RUNNING
from precision_lab.results.hints import hint
from precision_lab.verifying.junit import junit_xml
from precision_lab.verifying.verdict import Verdict

GPU = "--device sm_90"
KERNELS = """
import numpy as np
import torch

def logistic(x):
    return 1 / (1 + np.exp(-x))

def in_numpy(x):
    return np.asarray(x) * logistic(np.asarray(x))

def both(x):
    return torch.from_numpy(in_numpy(x.detach().float().numpy())).to(x.dtype)[:1]

def on_gpu(x):
    assert x.is_cuda
    return x

def only_there(x):
    return x * torch.sigmoid(x.cuda()).cpu()

def in_double(x):
    return torch.where(x > 0, x, torch.nn.functional.linear(x[None], torch.ones(1, x.numel()).double()))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(KERNELS, encoding="utf-8")
    return tmp_path


def verdict_of(target: str, **options: object) -> Verdict:
    arguments = {"fmts": ("bf16",), "properties": False, "isolate": False, **options}
    return verify(target, "silu", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
@pytest.mark.parametrize("isolate", [True, False])
def test_a_kernel_of_numpy_is_told_to_say_so(fmt: str, isolate: bool, folder: Path) -> None:
    if isolate and fmt == "fp32":
        pytest.skip("one format shows that the step crosses to this process")
    verdict = verdict_of("mine.py:in_numpy", fmts=(fmt,), isolate=isolate)
    step = (
        "If it takes arrays of numpy, not tensors, say so: --framework numpy (framework='numpy' in Python)."
    )
    assert verdict.next_steps == (step,) and not verdict.passed
    assert "it computes with numpy and not with torch" in verdict.failures[0]
    assert {fault["next_step"] for fault in verdict.to_json()["faults"]} == {step}
    assert "--framework numpy" in junit_xml(verdict)


@pytest.mark.parametrize(
    ("library", "code"),
    [
        (
            "jax",
            "import jax\nimport numpy as np\ndef k(x):\n    return x * jax.nn.sigmoid(x) * np.float32(1)\n",
        ),
        ("jax", "from jax.nn import silu as other\ndef k(x):\n    return other(x)\n"),
        ("mlx", "import mlx.core as mx\ndef k(x):\n    return x * mx.sigmoid(x)\n"),
    ],
    ids=["jax", "jax-imported", "mlx"],
)
def test_a_kernel_of_another_framework_is_told_to_say_so(library: str, code: str, folder: Path) -> None:
    pytest.importorskip("jax" if library == "jax" else "mlx.core", reason=f"needs {library}")
    (folder / f"in_{library}.py").write_text(code, encoding="utf-8")
    (step,) = verdict_of(f"in_{library}.py:k").next_steps
    assert f"--framework {library}" in step


def test_a_kernel_with_torch_in_it_is_not_taken_for_another_frameworks(folder: Path) -> None:
    faults = verdict_of("mine.py:both").faults
    assert faults and not any("it computes with" in fault.message for fault in faults)
    assert not any("it computes with" in f.message for f in verdict_of("mine.py:in_double").faults)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["on_gpu", "only_there"])
def test_a_kernel_that_needs_a_gpu_is_told_of_the_emulated_one(name: str, folder: Path) -> None:
    verdict = verdict_of(f"mine.py:{name}")
    (step,) = verdict.next_steps
    assert GPU in step and "TRITON_INTERPRET=1" in step
    assert all(GPU in fault["next_step"] for fault in verdict.to_json()["faults"])
    if name == "on_gpu":  # a bare assertion has no words: its line is said
        assert "AssertionError: assert x.is_cuda (mine.py, line " in verdict.failures[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_triton_kernel_without_a_gpu_is_told_of_the_emulated_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulation.require("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    (folder / "tri.py").write_text(
        "import torch\nimport triton\nimport triton.language as tl\n@triton.jit\n"
        "def body(x, y, n, B: tl.constexpr):\n    o = tl.arange(0, B)\n"
        "    tl.store(y + o, tl.load(x + o, mask=o < n), mask=o < n)\n"
        "def k(x):\n    y = torch.empty_like(x)\n    body[(1,)](x, y, x.numel(), B=64)\n    return y\n",
        encoding="utf-8",
    )
    (step,) = verdict_of("tri.py:k", isolate=True).next_steps
    assert GPU in step
    (step,) = verdict_of("tri.py:body", isolate=True).next_steps
    assert "name the Python function that launches it" in step


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("RuntimeError: Found no NVIDIA driver on your system.", GPU),
        ("AssertionError: Torch not compiled with CUDA enabled", GPU),
        ("RuntimeError: No CUDA GPUs are available", GPU),
        ("ValueError: Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)", GPU),
        ("AssertionError: x must be on a GPU", GPU),
        ("TypeError: Got unsupported ScalarType BFloat16", "--framework numpy"),
        ("forward is a ArrayImpl, not a tensor", "--framework jax"),
        ("forward is a array, not a tensor", "--framework mlx"),
        ("RuntimeError: expected scalar type Float but found BFloat16", "--format fp32"),
        ("RuntimeError: expected scalar type Double but found Float", "--format fp64"),
        ("NotImplementedError: \"erfinv\" not implemented for 'BFloat16'", "--format fp32"),
        ("AssertionError: only float64", "--format fp64"),
    ],
)
def test_what_libraries_say_has_its_step(words: str, step: str) -> None:
    code = "wrong_dtype" if "not a tensor" in words else "raised"
    found = Finding(
        code=code, function="silu", implementation="k", fmt="bf16", params_name="init", message=words
    )
    assert step in found.next_step and found.to_json()["next_step"] == found.next_step
    assert (
        step not in replace(found, code="inaccurate").next_step
    )  # the words of a kernel that ran say nothing


def test_without_a_hint_the_codes_own_step_stays() -> None:
    for code in RUNNING:
        assert hint(code, "RuntimeError: no such luck") == ""
    found = Finding(
        code="raised",
        function="silu",
        implementation="k",
        fmt="bf16",
        params_name="",
        message="ValueError: {0}",
    )
    assert found.next_step == CODES["raised"].next_step


def test_what_the_emulated_gpu_lacks_is_part_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "find_spec", lambda name: None)
    monkeypatch.setattr(hints.sys, "platform", "linux")
    assert "sm_90 (after `pip install" in hint("raised", "No CUDA GPUs are available")


def test_a_hint_looks_through_partials_and_the_functions_beside_it() -> None:
    assert foreign_hint(SILU) == "" and foreign_hint(torch.relu) == "" and foreign_hint(3) == ""
