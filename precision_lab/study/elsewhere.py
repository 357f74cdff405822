"""Work in the processes of other devices, while this process does its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from precision_lab.system.progress import Progress

T = TypeVar("T")

_LOOK = 0.2  # seconds between looks at how far it has come


class _Ended(BaseException):
    """What work that nobody waits for any more is told where it reports its progress."""


class Elsewhere(Generic[T]):
    """One piece of work, begun at once.

    As a context it ends the work with the block: nothing goes on after an error, or Ctrl-C, here.
    """

    def __init__(self, work: Callable[[Progress], T]) -> None:
        """
        Args:
            work: waits for another process, and reports at least every few seconds.
        """
        self._said: tuple[str, int, int] | None = None
        self._ended = False
        self._pool = ThreadPoolExecutor(1)
        self._future: Future[T] = self._pool.submit(work, self._hear)

    def _hear(self, stage: str, done: int, total: int) -> None:
        if self._ended:
            raise _Ended
        self._said = stage, done, total

    def result(self, progress: Progress) -> T:
        """What it gives, once it is done; what it raises is raised here."""
        while not self._future.done():
            if self._said is not None:
                progress(*self._said)
            time.sleep(_LOOK)
        if self._said is not None:
            progress(*self._said)
        return self._future.result()

    def __enter__(self) -> Elsewhere[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._pool.shutdown(wait=True)
