"""Progress on stderr: a bar per stage, or one with its rate; lines of text where nothing may be redrawn."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from precision_lab.cli.terminal import console_options, moves_cursor

TENTHS = 10  # of a stage, with a line of text for each on a terminal
MINUTE = 60.0


class ProgressBars:
    """A progress bar per stage, on stderr.

    Args:
        left: with the time left, by what was done so far; where no line may be redrawn, as a line a minute at
            most: for work that takes hours and is left alone.
    """

    def __init__(self, *, left: bool = False) -> None:
        self._left = left
        self._begun: dict[str, tuple[float, int]] = {}
        self._said = -math.inf

    def __enter__(self) -> ProgressBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._lines = None if moves_cursor(sys.stderr) else _Lines()
        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True, **console_options(sys.stderr)),
            disable=self._lines is not None,
        )
        self._tasks: dict[str, Any] = {}
        self._bars.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        left = self._words_left(stage, done, total) if self._left else ""
        if self._lines is not None:
            now = time.perf_counter()
            if not self._left:
                self._lines(stage, done, total)
            elif now - self._said >= MINUTE:
                self._said = now
                print(f"{stage}: {done:,} of {total:,}{left and ', ' + left}", file=sys.stderr, flush=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, left="")
        self._bars.update(self._tasks[stage], completed=done, total=total, left=left)

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

        self._name = name
        self._lines = None if quiet or moves_cursor(sys.stderr) else _Lines()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, **console_options(sys.stderr)),
            disable=quiet or self._lines is not None,
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
        if self._lines is not None:
            self._lines(self._name, done, total, rate)
            return
        self._bar.update(self._task, completed=done, total=total, rate=rate)

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)


class _Lines:
    """Progress where no line may be redrawn: one for every tenth of a stage; for its end alone in a file."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}
        self._least = 1 if sys.stderr.isatty() else TENTHS

    def __call__(self, stage: str, done: int, total: int, rate: str = "") -> None:
        tenth = TENTHS * done // total if total else TENTHS
        if tenth >= self._least and tenth > self._said.get(stage, 0):
            self._said[stage] = tenth
            percent = 100 * tenth // TENTHS
            print(f"{stage:>12} {percent:3} %  {done:,} of {total:,}  {rate}".rstrip(), file=sys.stderr)
