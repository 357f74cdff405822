"""A study runs every case it promises, and its results survive a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from precision_lab.exceptions import DeviceLostError
from precision_lab.formats import BF16, E4M3, FP16, FP32
from precision_lab.functions import RELU2, SILU, XIELU, XIPRELU
from precision_lab.results import Results
from precision_lab.results.profile import DEFAULT
from precision_lab.study.settings import StudySettings
from precision_lab.study.study import _in_a_new_process, run, run_through


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
    import precision_lab.measuring.measure as measure
    from precision_lab.report import write_report

    usual, calls = measure.measure_all, []

    def fatal(case):  # type: ignore[no-untyped-def]
        implementation = case.implementation
        calls.append(implementation.label)
        if len(calls) == 3:
            raise DeviceLostError(f"{implementation.label} destroyed the CUDA context (an illegal access)")
        return usual(case)

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
    short = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"**The report is incomplete**: {results.lost}." in short
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "details").iterdir())
    assert f"crashed: {results.lost}" in text and f"device lost: {results.lost}" in text


def test_what_a_lost_context_left_is_measured_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernels die one after the other; each is named, left out, and all others are measured."""
    import precision_lab.measuring.measure as measure

    usual, runs = measure.measure_all, []
    fatal = ("expm1 [eager]", "stable [eager]")

    def some_die(case):  # type: ignore[no-untyped-def]
        implementation = case.implementation
        if implementation.label in fatal:
            raise DeviceLostError(f"{implementation.label} destroyed the CUDA context")
        return usual(case)

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


def settings(**changes: object) -> StudySettings:
    return StudySettings(**{"functions": ("xielu", "silu"), **changes})  # type: ignore[arg-type]


def test_a_quick_study_is_of_the_first_parameters_and_compiles_nothing() -> None:
    full, quick = settings(), settings(quick=True)
    assert full.chosen_formats() == (FP32, BF16, FP16, E4M3) and quick.chosen_formats() == (BF16, FP16)
    assert full.parameter_sets(XIELU)[:2] == ("init", "nearly-linear")
    assert quick.parameter_sets(XIELU) == ("init",)
    assert any(i.execution.compiled for i in full.implementations())
    for other in (quick, settings(compiled=False)):
        assert not any(i.execution.compiled for i in other.implementations())
    left = settings(skipped=("xielu stable [eager]",)).implementations()
    assert {i.label for i in full.implementations() if i.function == XIELU} - {
        i.label for i in left if i.function == XIELU
    } == {"stable [eager]"}
    assert settings(functions=()).chosen_functions()[:2] == (XIELU, XIPRELU)
    assert settings(functions=(), quick=True).chosen_functions() == (XIELU, XIPRELU, RELU2, SILU)


def test_blocks_are_of_the_functions_chosen_and_of_silu() -> None:
    def names(**changes: object) -> list[str]:
        return [f"{i.function.name} {i.label}" for i in settings(**changes).blocks()]

    assert len(names(functions=())) == len(DEFAULT.timing.blocks)
    assert {name.split()[0] for name in names(functions=("xielu",))} == {"xielu", "silu"}
    assert any("[compiled]" in name for name in names()) and names(compiled=False)
    assert not any("[compiled]" in name for name in names(compiled=False))
    assert names(functions=("mish",)) == names(functions=("silu",)) == names(quick=True) == []


def test_a_study_of_the_cpu_has_blocks_of_fewer_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from precision_lab.study import mlp_block

    asked: list[tuple[set[str], int]] = []

    def measured(subjects, *, device, shape, lost):  # type: ignore[no-untyped-def]
        asked.append(({i.function.name for i in subjects}, shape.tokens))
        return []

    monkeypatch.setattr(mlp_block, "blocks", measured)
    here = replace(DEFAULT, study=replace(DEFAULT.study, emulated=()))
    chosen: dict[str, object] = {
        "functions": ("relu2",),
        "formats": ("bf16",),
        "compiled": False,
        "profile": here,
    }
    run(StudySettings(**chosen))  # type: ignore[arg-type]
    assert asked == [({"relu2", "silu"}, 256)]
    assert (mlp_block.CPU_SHAPE.model_width, mlp_block.CPU_SHAPE.hidden) == (1536, 9216)


def test_only_what_the_lost_device_left_is_taken_from_another_run() -> None:
    from dataclasses import replace

    from sample_results import measurement, reduction, sample_results

    from precision_lab.results import Failure
    from precision_lab.study.study import _completed

    lost, crashed = Failure("device_lost", "x destroyed it"), Failure("crashed", "it destroyed it")
    one, two, three = (measurement(name) for name in ("naive", "expm1", "stable"))
    sums = tuple(reduction("naive", "bf16", "grad_beta", 1.0, data) for data in ("aligned: …", "random: …"))
    before = replace(
        sample_results(), timings=(),
        measurements=(one, replace(two, failure=lost), replace(three, failure=crashed)),
        reductions=tuple(replace(r, failure=lost) for r in sums),
    )  # fmt: skip
    rest = replace(
        before, measurements=tuple(replace(m, mean_ulp=9.0) for m in (three, two, one)),
        reductions=tuple(replace(r, n=k) for k, r in enumerate(reversed(sums))),
    )  # fmt: skip
    found = _completed(before, rest)
    assert [(m.implementation, m.mean_ulp == 9.0, m.failure) for m in found.measurements] == [
        ("naive", False, None), ("expm1", True, None), ("stable", False, crashed),
    ]  # fmt: skip
    assert [r.n for r in found.reductions] == [1, 0]  # the sums of one output are told apart by their data


def test_a_study_keeps_the_binades_it_draws_and_witnesses_beyond_one_ulp() -> None:
    from dataclasses import replace

    from sample_results import measurement, statistics

    from precision_lab.results import Binade
    from precision_lab.study.stored import stored

    part = replace(statistics(8, 1.23456789), mean_ulp=0.0123456789, lean=-0.123456789)
    m = replace(
        measurement("naive"), binades=tuple(Binade(-1, e, part) for e in (-41, -40, 8, 9)),
        regions={"positive": part, "zero": statistics(8, 1.0)}, max_ulp=1.23456789, environment={"cpu": "x"},
    )  # fmt: skip
    found = stored(m)
    assert [b.exponent for b in found.binades] == [-40, 8]
    kept = found.regions["positive"]
    assert (kept.max_ulp, kept.mean_ulp, kept.lean) == (1.23457, 0.0123457, -0.123457)
    assert kept.witness == part.witness and found.regions["zero"].witness is None
    assert (found.max_ulp, found.witness, found.environment) == (1.23456789, m.witness, {})
    assert found.binades[0].statistics.max_ulp == 1.23457
    assert stored(replace(m, params_name="wide")).binades == ()


def test_cases_with_one_reference_are_neighbours() -> None:
    from precision_lab.study.study import _cases

    chosen = settings(formats=("fp16", "bf16"))
    cases = [(c.function.name, c.fmt.name, c.params_name) for c in _cases(chosen.implementations(), chosen)]
    assert len(cases) > 2 * len(set(cases))
    first = [case for k, case in enumerate(cases) if k == 0 or cases[k - 1] != case]
    assert len(first) == len(set(first))  # each reference once
    assert first[0][:2] == ("xielu", "fp16") and first[-1][:2] == ("silu", "bf16")
