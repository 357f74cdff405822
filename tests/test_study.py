"""A study runs every case it promises, and its results survive a round trip."""

from __future__ import annotations

import pytest

from precision_lab.results import Results
from precision_lab.study import StudySettings, run


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
