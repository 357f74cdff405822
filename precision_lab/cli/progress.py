"""Progress on stderr: a bar per stage, or one bar with its rate."""

from __future__ import annotations

import math
import time
from typing import Any

MINUTE = 60.0


class ProgressBars:
    """A progress bar per stage, on stderr.

    Args:
        left: with the time left, by what was done so far; where stderr is no terminal, as a line a minute at
            most: for work that takes hours and is left alone.
    """

    def __init__(self, *, left: bool = False) -> None:
        self._left = left
        self._begun: dict[str, tuple[float, int]] = {}
        self._said = -math.inf

    def __enter__(self) -> ProgressBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._bars.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, left="")
        left = self._words_left(stage, done, total) if self._left else ""
        self._bars.update(self._tasks[stage], completed=done, total=total, left=left)
        now = time.perf_counter()
        if self._left and not self._bars.console.is_terminal and now - self._said >= MINUTE:
            self._said = now
            self._bars.console.print(f"{stage}: {done} of {total}{left and ', ' + left}", soft_wrap=True)

    def _words_left(self, stage: str, done: int, total: int) -> str:
        """What was done before the first call, as in work that is resumed, is no rate."""
        now = time.perf_counter()
        since, before = self._begun.setdefault(stage, (now, done))
        return f"{duration((now - since) / (done - before) * (total - done))} left" if done > before else ""

    def __exit__(self, *details: Any) -> None:
        self._bars.__exit__(*details)


def duration(seconds: float) -> str:
    """A length of time in words, to the minute where it is longer than one."""
    minutes = round(seconds / MINUTE)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


class Rate:
    """One progress bar in inputs, with rate and time left, on stderr."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._bar.add_task(name, total=None, rate="")
        self._start: tuple[float, int] | None = None

    def __enter__(self) -> Rate:
        self._bar.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._start is None:  # what a resumed sweep had done already is no rate
            self._start = (now, done)
        seconds, fresh = now - self._start[0], done - self._start[1]
        rate = f"{fresh / seconds / 1e6:.0f} M inputs/s" if seconds > 0.5 and fresh else ""
        self._bar.update(self._task, completed=done, total=total, rate=rate)

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)
