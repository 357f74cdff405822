"""Every result that conforming devices may give: which are tried, and what is kept of each input.

A stand-in for a device's runs moves the correctly rounded result of ReLU, which is its argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from by_name import as_implementation, case

torch = pytest.importorskip("torch")

from precision_lab.exceptions import InternalError
from precision_lab.measuring import conforming
from precision_lab.results import Failure
from precision_lab.results.conformity import Conformity
from precision_lab.running.case import Case
from precision_lab.system.progress import Progress
from precision_lab.virtual_gpu import engines
from precision_lab.virtual_gpu.engines import Dimension, Record

X = np.array([1.0, 1.5, 2.0, 3.0])
ULP = np.array([2.0**-7, 2.0**-7, 2.0**-6, 2.0**-6])  # of bf16 there

Moves = Mapping[Dimension, int]


@dataclass
class Device:
    """What is computed for a choice, and for which it was."""

    results: Callable[[Moves], Any]
    dimensions: Mapping[Dimension, tuple[int, int]]
    obstacle: str = ""
    ends: Mapping[str, Any] = field(default_factory=dict)  # of what encloses results, or why nothing does
    side: str = ""
    names: tuple[str, ...] = ()
    asked: list[Moves] = field(default_factory=list)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        record = Record()
        record.dimensions.update(self.dimensions)
        names = self.names or [f"ex2.approx.f{k}" for k, _ in enumerate(self.dimensions)]
        if names:
            record.named[0, 0] = set(names)
        record.obstacle = self._obstacle  # type: ignore[method-assign]
        yield record

    def _obstacle(self, address: int) -> str:
        return self.obstacle if not self.side else "" if self.ends else "no range is known"

    @contextmanager
    def enclosing(self, side: str) -> Iterator[None]:
        self.side = side
        yield
        self.side = ""

    def tensors(self, given: Case, point: Any) -> dict[str, Any]:
        values = self.ends.get(self.side, np.zeros(1))
        return {o: torch.tensor(values, dtype=torch.bfloat16) for o in given.outputs}

    @contextmanager
    def choosing(self, choices: Moves) -> Iterator[None]:
        self.asked.append(dict(choices))
        yield

    def run(self, given: Case, bits: Any) -> dict[str, Any]:
        return {output: self.results(self.asked[-1]) for output in given.outputs}


def found(
    monkeypatch: pytest.MonkeyPatch,
    device: Device,
    nominal: Any = None,
    outputs: tuple[str, ...] = ("forward",),
    x: Any = X,
    progress: Progress | None = None,
) -> dict[str, Conformity]:
    monkeypatch.setattr(engines, "recording", device.recording)
    monkeypatch.setattr(engines, "choosing", device.choosing)
    monkeypatch.setattr(engines, "enclosing", device.enclosing)
    monkeypatch.setattr(engines, "raise_to_upper_ends", lambda planes, allocation: False)
    monkeypatch.setattr(conforming, "run", device.run)
    monkeypatch.setattr(conforming, "run_tensors", device.tensors)
    asked = case(as_implementation(torch.relu, "relu", ("bf16",)), outputs, "bf16", inputs=x)
    values = device.results(dict.fromkeys(device.dimensions, 0)) if nominal is None else nominal
    return conforming.conformities(asked, dict.fromkeys(outputs, values), progress)


def test_every_combination_is_tried_and_the_nominal_one_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (0, 0), (1, 0)
    device = Device(lambda moves: X, {first: (-1, 2), second: (0, 1)})
    conformity = found(monkeypatch, device)["forward"]
    assert conformity.combinations == 8 and conformity.unknown == ""
    assert conformity.instructions == ("ex2.approx.f0", "ex2.approx.f1")
    tried = {(moves[first], moves[second]) for moves in device.asked}
    assert tried == set(itertools.product(range(-1, 3), range(2))) - {(0, 0)} and len(device.asked) == 7
    assert conformity.varying == 0 and conformity.examples == () and conformity.most == 0.0


def test_each_run_is_told_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a word from the kernel's process takes many runs for a hang else."""
    device = Device(lambda moves: X, {(0, 0): (-1, 1)})
    told: list[tuple[str, int, int, int]] = []
    found(monkeypatch, device, progress=lambda *words: told.append((*words, len(device.asked))))
    assert told == [("inputs", 0, 4, 0), ("inputs", 4, 12, 0), ("inputs", 8, 12, 1)]
    enclosed = Device(lambda moves: X, {}, obstacle="too many", ends={"low": X, "high": X})
    told.clear()
    found(monkeypatch, enclosed, progress=lambda *words: told.append((*words, 0)))
    assert told == [("inputs", 0, 4, 0), ("inputs", 0, 8, 0), ("inputs", 4, 8, 0)]


def test_the_nearest_and_the_farthest_result_of_each_input_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1 between 1 and 4 ulps, the farthest met in the middle; at 1.5 between 0 and 2, elsewhere 0."""
    by_choice = {0: [2, 0, 0, 0], -1: [4, 2, 0, 0], 1: [1, 1, 0, 0]}
    device = Device(lambda moves: X + np.array(by_choice[moves[0, 0]]) * ULP, {(0, 0): (-1, 1)})
    conformity = found(monkeypatch, device)["forward"]
    span = conformity.regions["positive"]
    assert (span.least, span.most, conformity.most) == (1.0, 4.0, 4.0)
    assert conformity.varying == 2 and (span.wrong_sign, span.nonfinite) == ((0, 0), (0, 0))


def test_examples_are_the_inputs_that_differ_most(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda moves: X + moves[0, 0] * np.array([0, 1, 3, 2]) * ULP, {(0, 0): (0, 1)})
    examples = found(monkeypatch, device)["forward"].examples
    assert [(e.x, e.least, e.most) for e in examples] == [(2.0, 0.0, 3.0), (3.0, 0.0, 2.0), (1.5, 0.0, 1.0)]
    assert [e.bits for e in examples] == ["0x4000", "0x4040", "0x3fc0"]


def test_a_kernel_that_fails_when_it_is_called_again_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Device):
        def tensors(self, given: Case, point: Any) -> dict[str, Any]:
            return {output: Failure("raised", "not twice") for output in given.outputs}

    assert found(monkeypatch, Failing(lambda moves: X, {(0, 0): (0, 1)}))["forward"].unknown.startswith(
        "raised"
    )


def test_a_range_of_nothing_but_nan_is_nan_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = np.where(X == 2, np.nan, X)
    device = Device(lambda moves: nan, {}, obstacle="too many", ends={"low": nan, "high": nan})
    span = found(monkeypatch, device, nominal=nan)["forward"].regions["positive"]
    assert span.nonfinite == (1, 1)


def test_a_wrong_sign_counts_for_every_device_only_if_every_result_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 1 always, at 1.5 only of the nominal result, at 2 only of another; so do infinities, at 3."""
    by_choice = {
        0: [-1.0, -1.5, 2.0, np.inf], 1: [-1.0, 1.5, -2.0, 3.0],
    }  # fmt: skip
    device = Device(lambda moves: np.array(by_choice[moves[0, 0]]), {(0, 0): (0, 1)})
    span = found(monkeypatch, device)["forward"].regions["positive"]
    assert (span.wrong_sign, span.nonfinite) == ((1, 3), (0, 1))


def test_more_combinations_than_can_be_tried_are_unknown_once_alone_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = {(0, k): (-2, 2) for k in range(4)}
    device = Device(lambda moves: X, many)
    for conformity in found(monkeypatch, device, outputs=("forward", "grad_x")).values():
        assert "too many combinations" in conformity.unknown and conformity.regions == {}
    assert device.asked == []
    assert conforming.MOST_COMBINATIONS < 5**4


def test_where_choices_do_not_reach_every_result_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda moves: X, {(0, 0): (-1, 1)}, "several threads' results are combined")
    conformity = found(monkeypatch, device)["forward"]
    assert conformity.unknown == "several threads' results are combined; no range is known"
    assert conformity.regions == {}
    assert conformity.instructions == ("ex2.approx.f0",)


def test_ranges_decide_where_choices_do_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1 from 2 ulps below to 1 above; at 1.5 beyond by 1 to 3; at 2 from −2 to 4; at 3 up to infinity."""
    low, high = X + np.array([-2, 1, 0, 0]) * ULP, X + np.array([1, 3, 0, 0]) * ULP
    low[2], high[2], high[3] = -2.0, 4.0, np.inf
    device = Device(
        lambda moves: X + np.array([-1, 2, 0, 0]) * ULP,
        {(0, 0): (-1, 1)},
        "combined",
        {"low": low, "high": high},
    )
    conformity = found(monkeypatch, device)["forward"]
    assert conformity.is_enclosed and conformity.unknown == "" and conformity.varying == 4
    span = conformity.regions["positive"]
    assert (span.least, span.wrong_sign, span.nonfinite) == (1.0, (0, 1), (0, 1))
    assert span.most == 4.0 / 2**-6
    by_x = {e.x: (e.least, e.most) for e in conformity.examples}
    assert by_x[1.0] == (0.0, 2.0) and by_x[1.5] == (1.0, 3.0)


def test_between_two_infinities_there_is_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {"low": np.where(X > 2, -np.inf, X), "high": np.where(X > 2, np.inf, X)}
    device = Device(lambda moves: np.where(X > 2, np.inf, X), {(0, 0): (-1, 1)}, "combined", ends)
    span = found(monkeypatch, device)["forward"].regions["positive"]
    assert span.nonfinite == (0, 1)


def test_a_result_outside_of_its_range_is_the_labs_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda moves: X, {(0, 0): (-1, 1)}, "combined", {"low": X + ULP, "high": X + ULP})
    with pytest.raises(InternalError, match="is not in what encloses it"):
        found(monkeypatch, device)


@pytest.mark.parametrize("name", ["div.approx.f32", "div.full.f32"])
def test_where_something_may_be_unpromised_ranges_are_asked_too(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of div.approx by a subnormal number the manual says nothing; of div.full it says something always."""
    device = Device(lambda moves: X, {(0, 0): (-1, 1)})
    device.names = (name,)
    conformity = found(monkeypatch, device)["forward"]
    assert bool(conformity.unknown) == (name == "div.approx.f32")
    device.ends = {"low": X, "high": X}
    assert found(monkeypatch, device)["forward"].combinations == 3


def test_a_run_that_fails_leaves_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Failure("out_of_bounds", "beyond the end")
    device = Device(lambda moves: fails if moves[0, 0] == 1 else X, {(0, 0): (-1, 1)})
    assert found(monkeypatch, device)["forward"].unknown == "out_of_bounds: beyond the end"
    assert found(monkeypatch, device, fails) == {}


def test_of_too_many_inputs_one_result_alone_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of fp32: nothing is said of other devices, unless nothing is the device's to choose."""
    asked = case(as_implementation(torch.relu, "relu", ("bf16",)), ("forward",), "bf16", inputs=X)
    for dimensions, obstacle, known in (
        ({}, "", True), ({(0, 0): (-1, 1)}, "", False), ({}, "combined", False),
    ):  # fmt: skip
        device = Device(lambda moves: X, dimensions, obstacle)
        monkeypatch.setattr(engines, "recording", device.recording)
        monkeypatch.setattr(conforming, "run_tensors", device.tensors)
        conformity = conforming.unexamined(asked)["forward"]
        assert (conformity.unknown == "") == known


@pytest.mark.parametrize(("output", "count"), [("forward", 1), ("grad_x", 0)])
def test_what_a_gradient_is_at_nan_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, output: str, count: int
) -> None:
    x = np.array([1.0, np.nan])
    device = Device(lambda moves: np.array([1.0, 0.0]), {(0, 0): (0, 1)})
    spans = found(monkeypatch, device, outputs=(output,), x=x)[output].regions
    assert sum(span.nonfinite[1] for span in spans.values()) == count
