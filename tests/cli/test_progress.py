"""Progress of work that takes hours: how long is left, also where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from precision_lab.cli import progress
from precision_lab.cli.progress import ProgressBars, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (29, "29 s"), (31, "1 min"), (3569, "59 min"), (3571, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_a_length_of_time_is_said_to_the_minute(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_without_a_terminal_a_line_a_minute_says_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(
        # Two looks at the clock for each call, the first of them the rate's.
        [0.0, 0.0, 30.0, 30.0, 100.0, 100.0]
    )
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    with ProgressBars(left=True) as bars:
        for done in (5, 6, 7):  # 5 were there before
            bars("runs", done, 9)
    assert capsys.readouterr().err.splitlines() == ["runs: 5 of 9", "runs: 7 of 9, 2 min left"]
