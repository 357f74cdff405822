"""The examples of docs/validate.md and docs/low-precision.md do what these say of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from precision_lab.target import find  # noqa: E402
from precision_lab.verdict import verify  # noqa: E402

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def test_the_clamped_kernel_satisfies_allclose_and_fails_here() -> None:
    kernel = find(f"{EXAMPLES / 'clamped.py'}:xielu", "xielu", ("bf16", "fp32")).kernel
    params = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 2
    point, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    y, exact = (
        kernel(v, **{k: torch.tensor(p, dtype=v.dtype) for k, p in params.items()}) for v in (point, wide)
    )
    y.sum().backward()
    exact.sum().backward()
    assert torch.allclose(y.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.allclose(point.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)

    verdict = verify(kernel, "xielu", fmts=("bf16",), outputs=("grad_x",), properties=False, params={})
    wrong = next(fault for fault in verdict.faults if fault.kind == "wrong_sign")
    assert wrong.count == 13703


def test_the_series_kernel_is_right_but_for_one_input() -> None:
    kernel = find(f"{EXAMPLES / 'series.py'}:xielu", "xielu", ("bf16",)).kernel
    verdict = verify(kernel, "xielu", fmts=("bf16",), params={})
    assert [(fault.kind, fault.output, fault.count) for fault in verdict.faults] == [
        ("nonfinite", "forward", 1)
    ]
    assert max(m.max_ulp for m in verdict.measurements) < 0.501
    # With other parameters it is as accurate; with α_p = 170 its forward overflows early as well.
    others = verify(kernel, "xielu", fmts=("bf16",), properties=False)
    assert {(f.kind, f.output) for f in others.faults} == {("nonfinite", "forward")}
    assert len({m.params_name for m in others.measurements}) == 6


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_kernel_passes(tmp_path: Path) -> None:
    library = tmp_path / "xielu.so"
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", str(EXAMPLES / "xielu.c"), "-o", str(library), "-lm"], check=True
    )
    assert verify(f"{library}:xielu", "xielu", fmts=("fp32",), isolate=False).passed


def test_the_triton_series_is_right_next_to_zero() -> None:
    pytest.importorskip("triton")
    script = (
        "import sys; from precision_lab.verdict import verify\n"
        "for name in ('naive', 'stable'):\n"
        f"    v = verify(r'{EXAMPLES / 'triton_xielu.py'}:' + name, 'xielu', fmts=('fp32',),\n"
        "               outputs=('forward',), isolate=False, properties=False)\n"
        "    print(name, v.measurements[0].regions['near_zero_negative'].max_ulp)\n"
    )
    # Triton reads the variable when it is imported, which other tests may have done.
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    errors = {name: float(ulps) for name, ulps in (line.split() for line in ran.stdout.splitlines())}
    assert errors["naive"] > 1e5
    assert errors["stable"] < 0.53


def test_a_model_is_trained_and_captured(tmp_path: Path) -> None:
    from precision_lab.lowprecision.captured import Captured

    subprocess.run(
        [sys.executable, str(EXAMPLES / "capture_training.py"), "2"], cwd=tmp_path, check=True,
        capture_output=True,
    )  # fmt: skip
    captured = Captured.load(tmp_path / "run.npz")
    assert [layer.function for layer in captured.layers] == ["xielu"] * 3
    assert {h.n for layer in captured.layers for h in layer.tensors.values()} == {10 * 8 * 64 * 192}
