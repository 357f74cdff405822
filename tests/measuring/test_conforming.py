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

from precision_lab.measuring import conforming
from precision_lab.results import Failure
from precision_lab.results.conformity import Conformity
from precision_lab.running.case import Case
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
    asked: list[Moves] = field(default_factory=list)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        record = Record()
        record.dimensions.update(self.dimensions)
        record.instructions.update({d: f"ex2.approx.f{k}" for k, d in enumerate(self.dimensions)})
        record.obstacle = lambda address: self.obstacle  # type: ignore[method-assign]
        yield record

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
) -> dict[str, Conformity]:
    monkeypatch.setattr(engines, "recording", device.recording)
    monkeypatch.setattr(engines, "choosing", device.choosing)
    monkeypatch.setattr(conforming, "run", device.run)
    monkeypatch.setattr(
        conforming, "run_tensors", lambda given, point: {o: torch.zeros(1) for o in given.outputs}
    )
    asked = case(as_implementation(torch.relu, "relu", ("bf16",)), outputs, "bf16", inputs=X)
    values = device.results(dict.fromkeys(device.dimensions, 0)) if nominal is None else nominal
    return conforming.conformities(asked, dict.fromkeys(outputs, values))


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
    assert conformity.unknown == "several threads' results are combined" and conformity.regions == {}
    assert conformity.instructions == ("ex2.approx.f0",)


def test_a_run_that_fails_leaves_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Failure("out_of_bounds", "beyond the end")
    device = Device(lambda moves: fails if moves[0, 0] == 1 else X, {(0, 0): (-1, 1)})
    assert found(monkeypatch, device)["forward"].unknown == "out_of_bounds: beyond the end"
    assert found(monkeypatch, device, fails) == {}
