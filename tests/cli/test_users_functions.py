"""A function out of a user's file, through every door that takes a function's name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import precision_lab as pl
from precision_lab.cli.main import app
from precision_lab.functions import get_function
from precision_lab.lowprecision.capture.recognised import function_of

FUNCTIONS = """
import precision_lab as pl
from precision_lab.math import sin, where

@pl.activation
def hardswish(x):
    return where(x <= -3, 0, where(x >= 3, x, x * (x + 3) / 6))

@pl.activation(alpha=1.0)
def wave(x, alpha):
    return x + sin(alpha * x) ** 2 / alpha
"""
KERNELS = """
import torch

def hardswish(x):
    return torch.nn.functional.hardswish(x)

def wave(x, alpha):
    return x + torch.sin(alpha * x) ** 2 / alpha
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={**os.environ, "COLUMNS": "400"})
    return result.exit_code, result.output


@pytest.mark.usefixtures("here")
def test_a_verdict_names_the_function_by_its_file() -> None:
    code, words = said(
        "verify", "kernels.py:hardswish", "--function", "mine.py:hardswish", "--format", "bf16",
        "--properties", "none", "--output", "forward",
    )  # fmt: skip
    assert code == 1 and "wrong infinity or NaN for 342 inputs" in words
    assert "precision-lab explain mine.py:hardswish --bits 0x7e2b --format bf16 --output forward" in words


@pytest.mark.usefixtures("here")
def test_what_has_no_limit_is_not_judged_there_and_that_is_said() -> None:
    code, words = said(
        "verify", "kernels.py:wave", "--function", "mine.py:wave", "--format", "bf16", "--properties", "none",
        "--output", "grad_x", "--max-ulp", "1e30",
    )  # fmt: skip
    assert "grad_x is not judged at −∞ and ∞: no limit is proven there" in words
    assert "undecided for" not in words and code in (0, 1)


@pytest.mark.parametrize(("function", "noted"), [("log1p", True), ("tanhshrink", False)])
def test_a_gradient_without_a_function_is_not_judged_and_that_is_said(function: str, noted: bool) -> None:
    """torch gives d/dx log(1 + x) = 1/(1 + x) where log(1 + x) is NaN; nobody is held to that."""
    target = "torch:log1p" if noted else "torch.nn.functional:tanhshrink"
    _, words = said(
        "verify", target, "--function", function, "--format", "bf16", "--properties", "none",
        "--output", "grad_x",
    )  # fmt: skip
    assert (f"grad_x is not judged where {function} has no value" in words) == noted
    assert "wrong infinity or NaN" not in words


@pytest.mark.usefixtures("here")
def test_explain_shows_the_formula_as_torch_computes_it() -> None:
    code, words = said("explain", "mine.py:hardswish", "-x", "1.5", "--format", "bf16")
    assert code == 0 and "as-written" in words and "exact      1.125" in words


@pytest.mark.usefixtures("here")
def test_a_sweep_takes_it() -> None:
    code, words = said(
        "sweep", "mine.py:hardswish", "--implementation", "kernels.py:hardswish", "--format", "bf16",
        "--output", "grad_x",
    )  # fmt: skip
    assert code == 0 and "undecided 0" in words


def test_a_module_names_it_for_a_capture(here: Path) -> None:
    module = torch.nn.Identity()
    module.precision_lab_function = get_function(f"{here / 'mine.py'}:wave")  # type: ignore[assignment]
    name, definition = function_of(module)
    assert name == f"{here / 'mine.py'}:wave" and definition is not None
    module.precision_lab_function = name  # type: ignore[assignment]
    assert function_of(module) == (name, definition)


def test_the_object_is_taken_in_python(here: Path) -> None:
    mine = get_function(f"{here / 'mine.py'}:hardswish")
    assert pl.evaluate(mine, 1.0, bits=80) == pl.evaluate("hardswish", 1.0, bits=80)
    found = pl.measure(torch.nn.functional.hardswish, mine, fmt="fp16", output="forward")
    assert found.undecided == 0 and found.escalated["float64"] == 0
    with pytest.raises(AssertionError, match="wrong infinity"):
        pl.assert_accurate(torch.nn.functional.hardswish, mine, dtype=torch.bfloat16)
