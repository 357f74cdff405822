"""Progress on stderr: a bar per stage, or one with its rate; lines of text where nothing may be redrawn."""

from __future__ import annotations

import sys
import time
from typing import Any

from precision_lab.cli.terminal import console_options, moves_cursor

TENTHS = 10  # of a stage, with a line of text for each on a terminal


class ProgressBars:
    """A progress bar per stage, on stderr."""

    def __enter__(self) -> ProgressBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._lines = None if moves_cursor(sys.stderr) else _Lines()
        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True, **console_options(sys.stderr)),
            disable=self._lines is not None,
        )
        self._tasks: dict[str, Any] = {}
        self._bars.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._lines is not None:
            self._lines(stage, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def __exit__(self, *details: Any) -> None:
        self._bars.__exit__(*details)


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
