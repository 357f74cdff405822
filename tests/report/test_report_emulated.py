"""The section on kernels for emulated devices: which number stands in which column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sample_results import measurement, witness

from precision_lab.report.section import Table
from precision_lab.report.sections.emulated import kernels
from precision_lab.results import Failure, Measurement, Results
from precision_lab.results.conformity import Conformity, Span


def measured(output: str, max_ulp: float, **changes: Any) -> Measurement:
    conformity = Conformity(("ex2.approx.f32",), 7, 3, {"positive": Span(0.5, 2.0 * max_ulp)})
    facts = {"device": "sm_90", "max_ulp": max_ulp, "witness": witness(x=1.5), "conformity": conformity}
    return replace(measurement("stable", output, accurate=True), **{**facts, **changes})


def rows(*measurements: Measurement) -> list[list[Any]]:
    section = kernels(Results({}, {}, (), (), (), {}, emulated=measurements))
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    return [[getattr(cell, "text", cell) for cell in row.cells] for row in table.rows]


def test_without_emulated_devices_there_is_no_section() -> None:
    assert kernels(Results({}, {}, (), (), (), {})) is None


def test_a_row_has_the_largest_error_of_any_device_and_what_depends_on_it() -> None:
    found = rows(
        measured("forward", 0.5, conformity=Conformity(varying=12, regions={"positive": Span(0.5, 9.0)})),
        measured("grad_x", 1.2503, conformity=None), measured("grad_alpha_p", 1.5),
        measured("grad_beta", 2.0**20),
    )  # fmt: skip
    assert found == [["sm_90", "xielu", "stable", "bf16", "0.5", "1.25", "2^20", "2^21", "12"]]


def test_an_end_of_a_range_need_not_occur_and_is_marked_so() -> None:
    ranges = Conformity(combinations=0, varying=12, regions={"positive": Span(0.5, 9.0)})
    assert rows(measured("forward", 0.5), measured("grad_x", 1.0, conformity=ranges))[0][-2] == "≤ 9"


def test_wrong_signs_and_infinities_are_marked() -> None:
    section = kernels(Results({}, {}, (), (), (), {}, emulated=(
        measured("forward", 0.5, wrong_sign=1, nonfinite_mismatch=0),
        measured("grad_x", 70.0, wrong_sign=0, nonfinite_mismatch=2),
    )))  # fmt: skip
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    forward, grad_x = table.rows[0].cells[4:6]
    assert (forward.flags, forward.level, grad_x.flags, grad_x.level) == ("±", 0, "∞", 4)
    assert grad_x.title == "grad_x at x=1.5"


def test_each_device_kernel_and_format_has_its_own_row() -> None:
    found = rows(measured("forward", 0.5), measured("forward", 0.75, device="sm_100"))
    assert [(row[0], row[4]) for row in found] == [("sm_90", "0.5"), ("sm_100", "0.75")]


def test_what_was_not_tried_and_what_failed_is_said() -> None:
    unknown = replace(measured("forward", 0.5), conformity=Conformity(unknown="too many"))
    assert rows(unknown, measured("grad_x", 1.0))[0][-2:] == ["not tried", "–"]
    failed = replace(measured("forward", 0.5), failure=Failure("not_emulated", "an operator of torch's"))
    (row,) = rows(failed)
    assert row[:4] == ["sm_90", "xielu", "stable", "bf16"] and len(row) == 5
    (row,) = rows(failed, measured("grad_x", 1.0))
    assert row[5] == "1" and row[4] != "0.5"
