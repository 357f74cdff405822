"""Every public call takes a name, or an object that nobody has registered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab.devices import CPU
from precision_lab.formats import BF16
from precision_lab.functions import GELU, XIELU
from precision_lab.implementations import get_implementation
from precision_lab.results import Measurement, strict_json

MINE = dataclasses.replace(GELU, name="mine")
STORED = dataclasses.replace(BF16, name="stored")
gelu = torch.nn.functional.gelu


def told(measurement: Measurement) -> str:
    """All of it but its time; as text, since NaN is not equal to itself."""
    return strict_json({**measurement.to_json(), "time_ns_per_element": None})


@pytest.mark.parametrize("function", ["gelu", GELU, MINE], ids=["name", "registered", "own"])
@pytest.mark.parametrize("fmt", ["bf16", BF16, STORED], ids=["name", "registered", "own"])
def test_a_measurement_is_the_same_for_a_name_and_for_an_object(function: object, fmt: object) -> None:
    found = pl.measure(gelu, function, fmt=fmt, device=CPU)
    expected = pl.measure(gelu, "gelu", fmt="bf16")
    names = (getattr(function, "name", function), getattr(fmt, "name", fmt))
    assert (found.function, found.fmt, found.output_fmt) == (*names, names[1])
    same = {"function": "gelu", "fmt": "bf16", "output_fmt": "bf16"}
    assert told(dataclasses.replace(found, **same)) == told(expected)


def test_an_implementation_is_one_or_its_name() -> None:
    stable = get_implementation(XIELU, "stable")
    assert told(pl.measure(stable, XIELU)) == told(pl.measure("stable", "xielu"))


def test_certified_values_are_those_of_the_object() -> None:
    x = np.array([-2.0, -1e-3, 0.7])
    assert pl.evaluate(MINE, -0.5) == pl.evaluate("gelu", -0.5)
    found, expected = (
        pl.reference(f, "forward", None, x, fmt) for f, fmt in ((MINE, STORED), ("gelu", "bf16"))
    )
    assert np.array_equal(found.rounded, expected.rounded)


def test_a_verdict_of_ones_own_says_the_same_without_a_command_that_nobody_can_run() -> None:
    chosen = {"outputs": ("forward",), "properties": ("shapes",)}
    found = pl.verify(gelu, MINE, fmts=(STORED,), **chosen)
    expected = pl.verify(gelu, GELU, fmts=("bf16",), **chosen)
    assert found.outcome == expected.outcome == "fail"
    assert [f.message for f in found.faults] == [f.message for f in expected.faults]
    assert all(f.replay for f in expected.faults) and not any(f.replay for f in found.faults)


def test_a_targets_process_is_given_the_object(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("import torch\nmine = torch.nn.functional.gelu\n", encoding="utf-8")
    found = pl.verify(
        f"{tmp_path / 'kernels.py'}:mine", MINE, fmts=(STORED,), outputs=("forward",), properties=False
    )
    assert {(m.function, m.fmt) for m in found.measurements} == {("mine", "stored")}
    expected = pl.verify(gelu, GELU, fmts=(BF16,), outputs=("forward",), properties=False)
    assert [(f.code, f.message) for f in found.faults] == [(f.code, f.message) for f in expected.faults] != []


def test_laws_and_the_search_take_objects() -> None:
    broken = pl.search.check_laws(gelu, MINE, fmt=STORED, max_ulp=1e9, laws=("signs",), max_examples=2)
    assert {b.law for b in broken} <= {"signs"}
    found, expected = (
        pl.search.search(gelu, function, fmt=fmt, evaluations=4096)
        for function, fmt in ((MINE, STORED), ("gelu", "bf16"))
    )
    assert found == expected


@pytest.mark.parametrize("given", [3, None, BF16])
def test_what_is_neither_is_refused_with_the_argument(given: object) -> None:
    with pytest.raises(ValueError, match=r"function="):
        pl.measure(gelu, given)
    with pytest.raises(ValueError, match=r"format="):
        pl.measure(gelu, "gelu", fmt=GELU)
