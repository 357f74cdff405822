"""The record of a kernel's cost: what follows from its figures, and that JSON keeps them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sample_costs import BACKWARD, FORWARD, H100, H200, LAUNCH, cost

from precision_lab.results import Results, strict_json
from precision_lab.results.cost import BY_INSTRUCTIONS, BY_MEMORY, OPEN, Cost, DirectionCost


def test_a_cost_comes_back_from_json() -> None:
    whole = cost()
    data = json.loads(strict_json(whole.to_json()))
    assert Cost.from_json(data) == whole
    assert data["directions"][0]["shares"][1]["bound"] == BY_MEMORY


def test_a_report_keeps_costs_and_reads_those_of_before() -> None:
    results = Results({}, {}, (), (), (), {}, costs=(cost(),))
    assert Results.loads(results.dumps()) == results
    earlier = json.loads(results.dumps())
    del earlier["costs"]
    assert Results.loads(json.dumps(earlier)).costs == ()


def test_instructions_by_name_are_of_a_pass_that_has_them_for_every_launch() -> None:
    """Reports of before they were kept have none."""
    named = replace(LAUNCH, opcodes={"FMUL": 2.0, "MUFU.EX2": 1.0})
    both = DirectionCost("forward", 4.0, (named, replace(named, opcodes={"FMUL": 1.0})))
    assert both.opcodes == {"FMUL": 3.0, "MUFU.EX2": 1.0}
    assert DirectionCost("forward", 4.0, (named, LAUNCH)).opcodes == {}
    data = json.loads(strict_json(cost(directions=(both,)).to_json()))
    assert Cost.from_json(data).directions == (both,)
    for launch in data["directions"][0]["launches"]:
        del launch["opcodes"]
    assert Cost.from_json(data).directions[0].opcodes == {}


@pytest.mark.parametrize("name", ["device", "elements", "directions"])
def test_a_record_that_lacks_something_is_refused(name: str) -> None:
    data = cost().to_json()
    del data[name]
    with pytest.raises((KeyError, TypeError)):
        Cost.from_json(data)


@pytest.mark.parametrize(
    ("issued", "least", "special", "bound"),
    [
        (0.90, 0.90, 0.1, BY_MEMORY), (0.91, 0.91, 0.1, BY_INSTRUCTIONS), (0.95, 0.80, 0.1, OPEN),
        (0.99, 0.95, 0.1, BY_INSTRUCTIONS), (0.50, 0.50, 0.95, BY_INSTRUCTIONS),
        (float("inf"), 0.5, 0.1, OPEN),
    ],
)  # fmt: skip
def test_memory_bounds_what_leaves_a_tenth_of_every_unit(
    issued: float, least: float, special: float, bound: str
) -> None:
    share = replace(H200, units={"issue slots": issued, "MUFU": special}, least_issued=least)
    assert share.bound == bound
    assert share.largest == max(issued, special)


def test_a_pass_is_the_sum_of_its_launches() -> None:
    assert (FORWARD.least, FORWARD.most, FORWARD.longest) == (23.25, 23.25, 25.5)
    assert FORWARD.moved == 4.0 and FORWARD.units["FP32"] == 15.0
    assert FORWARD.main is not None and FORWARD.main.kernel == "forward_kernel"
    assert FORWARD.main.occupancy == 1.0 and replace(FORWARD.main, most_warps=0).occupancy is None
    assert cost().direction("backward") is BACKWARD and cost().direction("sideways") is None
    assert H100.unit == "issue slots"
