"""Eager, compiled for the CPU, compiled for a GPU: which figure stands where, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sample_results import measurement

from precision_lab.report.findings_compiled import survivors
from precision_lab.report.section import Table
from precision_lab.report.sections.compiled import formulations
from precision_lab.report.sections.emulated import kernels
from precision_lab.results import Failure, Measurement, Results

CASTS = "compiled emulate_precision_casts"


def measured(
    name: str, execution: str = "compiled", *, gpu: bool = True, good: bool = True, **changes: Any
) -> list[Measurement]:
    """Both outputs of a formulation, correctly rounded or 70 and 90 ulps off."""
    found = []
    for output, error in (("forward", 70.0), ("grad_x", 90.0)):
        m = measurement(name, output, accurate=True, execution=execution)
        facts: dict[str, Any] = {"device": "sm_90" if gpu else "cpu"}
        if not good:
            regions = {"positive": replace(m.regions["positive"], max_ulp=error)}
            facts |= {"max_ulp": error, "regions": regions}
        found.append(replace(m, **{**facts, **changes}))
    return found


def results(*groups: list[Measurement]) -> Results:
    rows = [m for group in groups for m in group]
    here = tuple(m for m in rows if m.device == "cpu")
    return Results({}, {}, here, (), (), {}, emulated=tuple(m for m in rows if m.device != "cpu"))


def table(found: Results) -> list[list[str]]:
    section = formulations(found)
    assert section is not None
    (only,) = (part for part in section.parts if isinstance(part, Table))
    return [[getattr(cell, "text", cell) for cell in row.cells] for row in only.rows]


def test_without_anything_compiled_for_a_gpu_there_is_no_section() -> None:
    assert formulations(results(measured("naive", gpu=False))) is None
    assert formulations(results(measured("stable", "triton"))) is None
    assert list(survivors(results(measured("naive", gpu=False)))) == []


def test_each_way_has_its_columns() -> None:
    found = results(
        measured("naive", "eager", gpu=False), measured("naive", gpu=False, good=False), measured("naive"),
        measured("naive", CASTS, good=False), measured("expm1", "eager", gpu=False),
    )  # fmt: skip
    good, bad = ["0.503", "0.503"], ["70", "90"]
    assert table(found) == [["xielu", "naive", "bf16", *good, *bad, *good, *bad]]
    assert kernels(found) is None  # no kernel that brings its own code


def test_other_parameters_are_left_out() -> None:
    others = measured("naive", good=False, params_name="nearly-linear")
    assert table(results(measured("naive"), others))[0][7:9] == ["0.503", "0.503"]


def test_what_survives_is_named_and_the_rest_has_its_figures() -> None:
    (found,) = survivors(results(measured("naive", good=False), measured("stable")))
    assert found.severity == "good"
    assert found.sentence == "xielu, compiled for sm_90: stable in bf16 within 1 ulp on every output."
    assert found.details == ("bf16: stable 0.503 ulp (forward); naive 90 ulp (d/dx)",)


def test_where_nothing_survives_that_is_a_fault() -> None:
    (found,) = survivors(results(measured("naive", good=False)))
    assert (found.severity, found.sentence) == ("fault", "xielu, compiled for sm_90: nothing in bf16.")


def test_what_the_cpu_flatters_is_said() -> None:
    _, found = survivors(
        results(measured("naive", gpu=False), measured("naive", good=False), measured("stable"))
    )
    assert found.severity == "caution" and found.sentence.endswith("passes it: naive in bf16.")


def test_what_failed_survives_nothing() -> None:
    failed = measured("naive", failure=Failure("raised", "no"))
    assert list(survivors(results(failed))) == []
    (found,) = survivors(results(failed, measured("stable", good=False)))
    assert found.severity == "fault" and "naive" not in found.sentence


def test_one_output_that_failed_takes_safety_away() -> None:
    forward, slope = measured("stable")
    found = results([forward, replace(slope, failure=Failure("raised", "no"))])
    (said,) = survivors(found)
    assert said.severity == "fault" and "stable" not in said.sentence


def test_gradients_are_told_from_the_result() -> None:
    forward, slope = measured("naive", good=False)
    assert table(results([replace(forward, max_ulp=4096.0), slope]))[0][7:9] == ["4096", "90"]
