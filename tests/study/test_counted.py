"""Which kernels a report counts the cost of, and that what is counted is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_costs import cost

import precision_lab.measuring.cost as measuring
from precision_lab.report.published import OPERATIONS
from precision_lab.results.cost import Cost
from precision_lab.results.profile import DEFAULT
from precision_lab.running.case import Case
from precision_lab.study import study
from precision_lab.study.saved_cases import Cases
from precision_lab.study.settings import StudySettings


def counted(monkeypatch: pytest.MonkeyPatch, cases: Cases) -> tuple[list[Cost], list[Case]]:
    """Of the settings that a report has for an emulated device, as if this process were its own."""
    asked: list[Case] = []

    def count(case: Case) -> Cost:
        asked.append(case)
        return cost(function=case.function.name, implementation=case.implementation.name, fmt=case.fmt.name)

    monkeypatch.setattr(measuring, "cost", count)
    (there,) = StudySettings().emulated()
    listed = there.listed()
    monkeypatch.setattr(StudySettings, "implementations", lambda self: listed)
    return study.counted_there(there, "cost", cases, progress=lambda *_: None), asked


def test_the_functions_shown_first_are_counted_in_one_format(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = counted(monkeypatch, Cases())
    assert len(found) == len(asked) == len({(c.function.name, c.implementation.label) for c in asked})
    assert {c.fmt.name for c in asked} == {"bf16"} and {c.params_name for c in asked} == {"init"}
    own = [c.implementation for c in asked if not c.implementation.execution.compiled]
    assert {i.function.name for i in own} == {"xielu", "xiprelu"}
    assert {i.execution.name for i in own} == {"triton", "cuda", "operator"}


def test_the_functions_whose_operations_the_paper_counts_are_counted_as_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, asked = counted(monkeypatch, Cases())
    subjects = {f"{c.function.name}/{c.implementation.label}" for c in asked}
    assert subjects >= set(DEFAULT.study.counted)
    assert {name.split("/")[0] for name in DEFAULT.study.counted} == {*OPERATIONS, "relu2"}
    assert all(name.endswith("[compiled]") for name in DEFAULT.study.counted)


def test_what_was_counted_before_a_report_was_cut_off_is_not_counted_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cases = Cases(tmp_path)
    first, asked = counted(monkeypatch, cases)
    again, none = counted(monkeypatch, cases)
    assert again == first and len(asked) == len(first) and none == []


def test_a_quick_report_counts_nothing() -> None:
    assert StudySettings(quick=True).emulated() == ()
