"""Processes of the lab's own: they end when the one that started them does, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def module_path() -> str:
    """PYTHONPATH under which a child finds the modules that this process has.

    To be used with -P, so that the working folder does not come before them, where a checkout of the
    lab would be loaded instead of the one that is installed. A kernel's module may stand there.
    """
    here = os.getcwd()
    return os.pathsep.join(dict.fromkeys([*(entry or here for entry in sys.path), here]))


def tie_to_parent(lifeline: int) -> None:
    """Ends this process and all that it will start as soon as no writer of a pipe is left.

    A guard waits for that. It needs nothing of this process, which may hang in a kernel, hold the
    interpreter's lock or be stopped. To be called before there are threads.

    Args:
        lifeline: descriptor of the pipe's reading end, closed here; the parent holds the only writing end.
    """
    if not hasattr(os, "fork"):
        return  # Windows: a child that works outlives its parent by what it is at
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a group of its own, which the guard can end as a whole
    group = os.getpgrp()
    if os.fork():
        os.close(lifeline)
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Held open here, the ends of the other pipes would never be seen by those who wait for them.
        os.dup2(lifeline, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        while os.read(0, 4096):
            pass
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(0)


def _start_worker(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    tie_to_parent(os.dup(parent.sentinel))
    if prepare is not None:
        prepare(*arguments)


@contextlib.contextmanager
def worker_pool(
    workers: int, prepare: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """New interpreters to work in, which end with this process.

    Where the block is left by an error they finish what they are at and begin nothing new; by Ctrl-C, they
    end at once. Not forked: numba, torch and mpmath's backend may already run threads here.

    Args:
        prepare: called with the arguments in each of them at first.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (prepare, arguments)) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):
                for child in set(multiprocessing.active_children()) - before:
                    child.kill()
            raise
