"""A study runs every case it promises, and its results survive a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from precision_lab.exceptions import DeviceLostError
from precision_lab.results import Results
from precision_lab.study import StudySettings, _in_a_new_process, run, run_through


def test_a_small_study_is_complete_and_round_trips():
    settings = StudySettings(quick=True, functions=("relu2",), formats=("bf16",), timing=False)
    seen = []
    results = run(settings, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert {(m.function, m.fmt) for m in results.measurements} == {("relu2", "bf16")}
    assert {m.output for m in results.measurements} == {"forward", "grad_x"}
    assert all(m.undecided == 0 and m.failure is None for m in results.measurements)
    assert Results.loads(results.dumps()) == results
    assert seen[-1][1] == seen[-1][2]


@pytest.mark.parametrize(("field", "value"), [("functions", "xilu"), ("formats", "fp17")])
def test_unknown_names_are_refused_before_anything_runs(field, value):
    with pytest.raises(ValueError, match=r"did you mean"):
        StudySettings(**{field: (value,)})


def test_a_kernel_that_destroys_the_gpus_context_loses_nothing_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subject has crashed, what follows says why it was not measured, and the report is written."""
    import precision_lab.measure as measure
    from precision_lab.report import write_report

    usual, calls = measure.measure_all, []

    def fatal(implementation, *rest, **options):  # type: ignore[no-untyped-def]
        calls.append(implementation.label)
        if len(calls) == 3:
            raise DeviceLostError(f"{implementation.label} destroyed the CUDA context (an illegal access)")
        return usual(implementation, *rest, **options)

    monkeypatch.setattr(measure, "measure_all", fatal)
    settings = StudySettings(quick=True, functions=("xielu",), formats=("bf16",))
    results = run(settings)
    assert len(calls) == 3  # nothing is tried on a device that is lost
    by_subject: dict[str, set[str]] = {}
    for m in results.measurements:
        kind = m.failure.kind if m.failure else "measured"
        by_subject.setdefault(f"{m.implementation} [{m.execution}]", set()).add(kind)
    assert [kinds for kinds in by_subject.values()] == [
        {"measured"}, {"measured"}, {"crashed"}, *[{"device_lost"}] * (len(by_subject) - 3)
    ]  # fmt: skip
    assert len(by_subject) > 4
    for rows in (results.reductions, results.timings, results.conversions):
        assert rows and {r.failure.kind for r in rows if r.failure} == {"device_lost"}
        assert all(r.failure and calls[2] in r.failure.message for r in rows)
    assert results.lost == f"{calls[2]} destroyed the CUDA context (an illegal access)"
    assert Results.loads(results.dumps()).lost == results.lost
    write_report(results, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"crashed: {results.lost}" in text and f"device lost: {results.lost}" in text


def test_what_a_lost_context_left_is_measured_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernels die one after the other; each is named, left out, and all others are measured."""
    import precision_lab.measure as measure

    usual, runs = measure.measure_all, []
    fatal = ("expm1 [eager]", "stable [eager]")

    def some_die(implementation, *rest, **options):  # type: ignore[no-untyped-def]
        if implementation.label in fatal:
            raise DeviceLostError(f"{implementation.label} destroyed the CUDA context")
        return usual(implementation, *rest, **options)

    def again(settings: StudySettings) -> Results:
        runs.append(settings.skipped)
        return run(settings)

    monkeypatch.setattr(measure, "measure_all", some_die)
    settings = StudySettings(quick=True, functions=("xielu",), formats=("bf16",), timing=False)
    results = run_through(settings, again=again)
    assert runs == [("xielu expm1 [eager]",), ("xielu expm1 [eager]", "xielu stable [eager]")]
    kinds: dict[str, set[str]] = {}
    for m in results.measurements:
        kinds.setdefault(f"{m.implementation} [{m.execution}]", set()).add(
            m.failure.kind if m.failure else "measured"
        )
    assert {name: k for name, k in kinds.items() if k != {"measured"}} == {f: {"crashed"} for f in fatal}
    measured = {(r.implementation, r.execution) for r in results.reductions if r.failure is None}
    assert ("zero-expm1", "eager") in measured
    assert all(c.failure is None or c.failure.kind != "device_lost" for c in results.conversions)
    assert results.settings == run(settings).settings


def test_a_new_process_gives_the_same_results() -> None:
    settings = StudySettings(quick=True, functions=("relu2",), formats=("bf16",), timing=False)
    mine, theirs = run(settings), _in_a_new_process(settings)
    assert mine.measurements == theirs.measurements
