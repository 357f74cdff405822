"""What conforming devices may return, in words and numbers: kept, read back, and held against a bound."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from sample_results import measurement, witness

from precision_lab.results import Measurement
from precision_lab.results.conformity import CERTIFIED, DEPENDS, REFUTED, Conformity, Span, Varying
from precision_lab.results.strict_json import strict_json
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge, said_of_devices, standing

EX2 = ("ex2.approx.f32",)


def found(unknown: str = "", **regions: Span) -> Measurement:
    conformity = Conformity(EX2, 7, 3, regions, (Varying("0x3f80", 1.0, 0.5, 2.5),), unknown)
    return replace(measurement("stable", accurate=True), conformity=conformity)


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (0.5, 1.0, CERTIFIED), (0.5, 1.0 + 2.0**-11, CERTIFIED), (0.5, 1.0 + 2.0**-9, DEPENDS),
        (1.0 + 2.0**-11, 9.0, DEPENDS), (1.0 + 2.0**-9, 9.0, REFUTED),
    ],
)  # fmt: skip
def test_a_bound_is_certified_refuted_or_depends(least: float, most: float, expected: str) -> None:
    """By the worst device, by the best one; as far as errors are certified."""
    assert standing(found(positive=Span(least, most)), Bound(1.0)) == expected


def test_each_region_is_held_to_its_own_limit() -> None:
    m = found(positive=Span(0.5, 0.9), root_forward=Span(4.0, 6.0))
    assert standing(m, Bound(1.0, regions={"root_forward": 8.0})) == CERTIFIED
    assert standing(m, Bound(1.0, regions={"root_forward": 5.0})) == DEPENDS
    assert standing(m, Bound(1.0)) == REFUTED


@pytest.mark.parametrize("kind", ["wrong_sign", "nonfinite"])
def test_wrong_signs_and_infinities_are_counted_on_the_best_and_on_the_worst_device(kind: str) -> None:
    """Over all regions together, against what the bound forgives."""
    m = found(**{name: Span(0.5, 0.5, **{kind: (1, 3)}) for name in ("positive", "far_tail")})  # type: ignore[arg-type]
    by_count = {1: REFUTED, 2: DEPENDS, 5: DEPENDS, 6: CERTIFIED}
    assert {n: standing(m, Bound(1.0, **{kind: n})) for n in by_count} == by_count  # type: ignore[arg-type]


def test_what_was_not_tried_certifies_nothing() -> None:
    assert standing(found("too many", positive=Span(0.5, 0.5)), Bound(1.0)) == ""
    assert standing(replace(found(), conformity=None), Bound(1.0)) == ""
    (fault,) = judge(found("too many"), Bound(1000.0, biased=True, wrong_sign=10**9, nonfinite=10**9))
    assert fault.code == "depends_on_device" and "ex2.approx.f32" in fault.message
    assert "too many" in fault.message


@pytest.mark.parametrize("enclosed", [False, True])
def test_what_is_not_known_of_other_devices_hides_nothing_of_this_one(enclosed: bool) -> None:
    """15,696 NaN went unsaid where a published kernel's exponential was not to be tried."""
    m = measurement("eps-naive", "grad_x")
    m = replace(m, nonfinite_mismatch=15696, nonfinite_witness=replace(witness(44.5), computed=math.nan))
    unknown = Conformity(EX2, 7, 3, {"positive": Span(0.5, 9.0)}, (), "" if enclosed else "too many")
    m = replace(m, conformity=replace(unknown, combinations=0) if enclosed else unknown)
    codes = [fault.code for fault in judge(m, Bound(1.0))]
    assert codes == ["inaccurate", "wrong_sign", "nonfinite", "depends_on_device"]


def test_what_depends_on_the_device_is_no_fault_of_the_kernels() -> None:
    found_faults = judge(found(positive=Span(0.5, 2.5)), Bound(1.0))
    assert [fault.code for fault in found_faults] == ["depends_on_device"]
    assert "2.5" in found_faults[0].message and "0x3f80" in found_faults[0].message


def test_the_largest_error_is_the_worst_devices_in_any_region() -> None:
    spans = {"positive": Span(0.5, 2.5), "far_tail": Span(2.0, 2.25)}
    assert Conformity(EX2, 7, 3, spans).most == 2.5
    assert Conformity().most == 0.0


def test_what_is_known_comes_back_from_json() -> None:
    """Also a count that only the worst device has, and an error that is no number."""
    spans = {"positive": Span(0.5, math.inf, (1, 3), (0, 7)), "zero": Span(0.0, 0.0)}
    example = Varying("0x3f80", 1.0, 0.5, math.inf)
    whole = Conformity(EX2, 49, 12, spans, (example,), "why")
    assert Conformity.from_json(json.loads(strict_json(whole.to_json()))) == whole


def test_a_reason_from_elsewhere_is_shown_as_plain_text() -> None:
    assert "\x1b" not in Conformity(unknown="a\x1b[31mb").unknown


def test_a_verdict_says_of_which_devices_it_is() -> None:
    m, conformity = found(positive=Span(0.5, 0.9)), found(positive=Span(0.5, 0.9)).conformity
    assert conformity is not None
    assert said_of_devices(m, Bound(1.0)) == (
        "certified for every conforming device: ex2.approx.f32, 7 combinations of results tried, at most 0.9 "
        "ulps; 3 inputs depend on it"
    )
    measured = replace(m, conformity=replace(conformity, tables=("NVIDIA H100",)))
    assert said_of_devices(measured, Bound(1.0)).startswith(
        "certified for what NVIDIA H100 was measured to return"
    )
    enclosed = replace(m, conformity=replace(conformity, combinations=0))
    assert ", enclosed, at most" in said_of_devices(enclosed, Bound(1.0))
    assert said_of_devices(enclosed, Bound(0.7)) == ""  # not decided, which is a finding
    nothing = replace(m, conformity=Conformity())
    assert "nothing of the result is the device's to choose" in said_of_devices(nothing, Bound(1.0))
    assert said_of_devices(replace(m, conformity=None), Bound(1.0)) == ""
    assert said_of_devices(found("too many"), Bound(1.0)) == ""
