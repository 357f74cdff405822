"""The examples of docs/validate.md, docs/profile.md and docs/low-precision.md do what these say of them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

torch = pytest.importorskip("torch")

import emulation
from by_name import find

from precision_lab.verifying.verify import verify

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
TESTED: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., None])


def runs(name: str) -> Callable[[Test], Test]:
    """Notes which example a test runs."""

    def note(test: Test) -> Test:
        TESTED.add(name)
        return test

    return note


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == TESTED


@runs("clamped.py")
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


@runs("series.py")
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


@runs("xielu.c")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_kernel_passes(tmp_path: Path) -> None:
    library = tmp_path / "xielu.so"
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", str(EXAMPLES / "xielu.c"), "-o", str(library), "-lm"], check=True
    )
    assert verify(f"{library}:xielu", "xielu", fmts=("fp32",), isolate=False).passed


@pytest.mark.slow
@runs("triton_xielu.py")
def test_the_triton_series_is_right_next_to_zero() -> None:
    pytest.importorskip("triton")
    script = (
        "import sys; from precision_lab.verifying.verify import verify\n"
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


@runs("capture_training.py")
def test_a_model_is_trained_and_captured(tmp_path: Path) -> None:
    from precision_lab.lowprecision.capture.captured import Captured

    subprocess.run(
        [sys.executable, str(EXAMPLES / "capture_training.py"), "2"], cwd=tmp_path, check=True,
        capture_output=True,
    )  # fmt: skip
    captured = Captured.load(tmp_path / "run.npz")
    assert [layer.function for layer in captured.layers] == ["xielu"] * 3
    assert {h.n for layer in captured.layers for h in layer.tensors.values()} == {10 * 8 * 64 * 192}


@runs("profile.toml")
def test_the_profile_is_read_and_is_the_one_that_the_page_explains() -> None:
    import tomllib

    from precision_lab.study.profile import read_profile

    found = read_profile(EXAMPLES / "profile.toml")
    assert found.study.quick_functions == ("mish", "silu") and found.report.lead == ("mish",)
    page = (EXAMPLES.parent / "profile.md").read_text(encoding="utf-8")
    shown = page.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(shown) == tomllib.loads((EXAMPLES / "profile.toml").read_text(encoding="utf-8"))
    for table in ("study", "timing", "lowprecision", "report"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{table}` |"))
        assert all(f"`{key}`" in row for key in vars(getattr(found, table)))


@pytest.mark.slow
@runs("probe_gpu.toml")
def test_the_probe_for_a_gpu_trains_to_its_end(tmp_path: Path) -> None:
    """All its recipes and kinds of run, a sliver of the work; checkpoints come as often as in the file."""
    from precision_lab.lowprecision.probe.probe import probe, read_config

    config = read_config(EXAMPLES / "probe_gpu.toml")
    training = config.training
    every = training.checkpoint_every
    assert 0 < every < min(training.steps, training.warm_steps, training.aged_steps)
    short = dataclasses.replace(
        training, steps=training.steps // every, warm_steps=2, aged_steps=training.aged_steps // every,
        checkpoint_every=1, batch=2, evaluation=1,
        model=dataclasses.replace(training.model, width=16, layers=1, heads=2, hidden=32, context=16),
    )  # fmt: skip
    one = {"subjects": 1, "ageings": 1, "remedies": 1}
    grids = {
        field.name: dataclasses.replace(
            grid, seeds=1, **{name: getattr(grid, name)[:n] for name, n in one.items() if hasattr(grid, name)}
        )
        for field in dataclasses.fields(config)
        if field.name != "training"
        for grid in [getattr(config, field.name)]
    }
    found = probe(tmp_path, dataclasses.replace(config, training=short, **grids), workers=1)
    assert {r["run"]["recipe"] for r in found["runs"]} == {"fp32", *config.runs.recipes}
    assert all(r["record"]["validation_loss"] is not None for r in found["runs"])
    assert found["predictions"]
    assert not list(tmp_path.rglob("*.checkpoint*"))


RELU = """
import torch, triton
import triton.language as tl

@triton.jit
def forward(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + at, at < n)
    tl.store(y + at, tl.where(a < 0, 0.0, a), at < n)

def relu(x):
    y = torch.empty_like(x)
    forward[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y
"""


@pytest.mark.slow
@runs("readiness_spread.py")
def test_the_spread_of_readiness_is_of_seeds_alone() -> None:
    """That of xIELU and SwiGLU stands beside the code; here ReLU², in a minute."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "readiness_spread.py"), "relu2/torch"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:5]] == ["delayed", "block", "mxfp8", "nvfp4", "nvfp4-plain"]
    assert [line.split(":")[0] for line in lines[5:]] == ["forward", "gradient"]


@runs("verify_without_gpu.sh")
@pytest.mark.parametrize("fails", ["", "sm_90"])
def test_a_job_of_ci_verifies_for_three_gpus(fails: str, tmp_path: Path) -> None:
    """The script as it is, but that what pip installs is here already; for one device it may fail."""
    emulation.require("triton")
    programs, folder = tmp_path / "programs", tmp_path / "repository"
    programs.mkdir()
    folder.mkdir()
    asked = tmp_path / "asked"
    run = f'exec "{sys.executable}" -m precision_lab "$@"'
    lines = {
        "pip": f'echo "$@" > "{asked}"',
        # `python3 -m venv FOLDER` is given an environment with these programs.
        "python3": f'cp -r "{programs}" "$3/bin"',
        "precision-lab": f'case "$*" in *{fails}*) exit 1;; esac' if fails else run,
    }
    for name, line in lines.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    (folder / "mine.py").write_text(RELU, encoding="utf-8")
    words = ["mine.py:relu", "relu", "--format", "bf16", "--output", "forward", "--properties", "none"]
    given = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PRECISION_LAB": "the lab"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / "verify_without_gpu.sh"), *words, "--max-ulp", "0.5"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **given},
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("== sm_")) == (1 if fails else 0, 3), done.stdout + done.stderr
    if not fails:
        found = sorted(p.name for p in folder.glob("*.xml"))
        assert found == ["precision-sm_100.xml", "precision-sm_80.xml", "precision-sm_90.xml"]
        assert done.stdout.count("65536") >= 3 and done.stdout.count("\npass") == 3
    assert asked.read_text(encoding="utf-8").split()[-2:] == ["the", "lab"]
