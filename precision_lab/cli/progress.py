"""Progress on stderr: a bar per stage, or one bar with its rate."""

from __future__ import annotations

import time
from typing import Any


class ProgressBars:
    """A progress bar per stage, on stderr."""

    def __enter__(self) -> ProgressBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._bars.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
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
