"""Tests run in a random order, and each finds the process as the first one does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flint
import mpmath
import numpy as np
import pytest
from process_state import left_behind, process_state

torch = pytest.importorskip("torch")

from precision_lab.formats import float_format
from precision_lab.running import selfcheck


def flush(on: bool) -> None:
    if not torch.set_flush_denormal(on):
        pytest.skip("this processor cannot flush subnormal numbers")


@pytest.mark.parametrize(
    ("leave", "name"),
    [
        (lambda m: m.setenv("PRECISION_LAB_CACHE", "/elsewhere"), "$PRECISION_LAB_CACHE"),
        (lambda m: m.delenv("PATH"), "$PATH"),
        (lambda m: m.chdir("/"), "working folder"),
        (lambda m: m.setattr(mpmath.mp, "prec", 99), "mpmath.mp.prec"),
        (lambda m: m.setattr(flint.ctx, "prec", 99), "flint.ctx.prec"),
        (
            lambda m: m.setattr(selfcheck, "_torch_flushes", None),
            "precision_lab.running.selfcheck._torch_flushes",
        ),
        (
            lambda m: m.setitem(float_format.FORMATS._entries, "mine", None),
            "precision_lab.formats.len(FORMATS)",
        ),
    ],
)
def test_what_is_left_patched_is_named(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[Any], None], name: str
) -> None:
    monkeypatch.delenv("PRECISION_LAB_CACHE", raising=False)
    before = process_state()
    with monkeypatch.context() as patch:
        leave(patch)
        left = left_behind(before, process_state())
    # A registry is held by every module that imported it.
    assert name in left and {key.rpartition(".")[2] for key in left} == {name.rpartition(".")[2]}
    assert left_behind(before, process_state()) == {}


@pytest.mark.parametrize(
    ("switch", "back", "name"),
    [
        (lambda: flush(True), lambda: flush(False), "subnormal numbers are kept"),
        (lambda: np.seterr(under="raise"), lambda: np.seterr(under="ignore"), "numpy's handling of errors"),
        (
            lambda: torch.set_default_dtype(torch.float64),
            lambda: torch.set_default_dtype(torch.float32),
            "torch.get_default_dtype",
        ),
        (
            lambda: torch.use_deterministic_algorithms(True),
            lambda: torch.use_deterministic_algorithms(False),
            "torch.are_deterministic_algorithms_enabled",
        ),
    ],
)
def test_a_switch_left_on_is_named(switch: Callable[[], Any], back: Callable[[], Any], name: str) -> None:
    before = process_state()
    switch()
    try:
        found = process_state()
    finally:
        back()
    assert list(left_behind(before, found)) == [name]


@pytest.mark.parametrize("again", range(2))
def test_each_test_draws_the_same_from_torchs_own_generator(again: int) -> None:
    assert torch.equal(torch.randn(3), torch.randn(3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("value", [1, 2])
def test_a_kernels_file_of_the_same_name_is_not_an_earlier_tests(tmp_path: Path, value: int) -> None:
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "kernels_of_one_test.py").write_text(f"VALUE = {value}\n", encoding="utf-8")
    import kernels_of_one_test  # type: ignore[import-not-found]

    assert value == kernels_of_one_test.VALUE


def test_a_variable_that_is_new_is_left_behind_and_a_module_that_is_new_is_not() -> None:
    before = process_state()
    assert left_behind(before, before | {"precision_lab.new": before["precision_lab.formats"]}) == {}
    assert left_behind(before, before | {"$NEW": "1"}) == {"$NEW": (None, "1")}
    assert "PYTEST_CURRENT_TEST" in os.environ and "$PYTEST_CURRENT_TEST" not in before
