"""Time that a kernel's own calls take while it is measured."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import ReferenceType, ref

import torch

from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.base import Implementation

FEWEST = 4096  # elements of a call that is timed: below, what the call itself costs is most of it


class Clock:
    """Adds up the time of the calls of one kernel, by stage, and the elements that they were given."""

    def __init__(self, implementation: Implementation) -> None:
        self._wait = implementation.device.synchronize  # a call only asks the device to begin
        self._lock = Lock()  # a sweep's threads share it
        self._spent = {"forward": (0, 0), "backward": (0, 0)}  # nanoseconds, elements

    @contextmanager
    def running(self, stage: str, elements: int) -> Iterator[None]:
        """Around a call that gives a result; one that raises is not counted."""
        self._wait()
        start = time.perf_counter_ns()
        yield
        self._wait()
        nanoseconds = time.perf_counter_ns() - start
        with self._lock:
            spent, seen = self._spent[stage]
            self._spent[stage] = spent + nanoseconds, seen + elements

    def per_element(self, output: str) -> float | None:
        """Nanoseconds, as `Measurement.time_ns_per_element` has them; None where no call was counted."""
        spent = [self._spent["forward"], *([] if output == "forward" else [self._spent["backward"]])]
        if not all(elements for _, elements in spent):
            return None
        return sum(nanoseconds / elements for nanoseconds, elements in spent)


@lru_cache(maxsize=1)
def _registered() -> frozenset[int]:
    return frozenset(id(implementation.kernel) for implementation in IMPLEMENTATIONS.values())


def is_plain(implementation: Implementation) -> bool:
    """Whether it is a kernel of the lab's own list and keeps nothing between calls but what it has loaded."""
    return (
        implementation.execution.keeps_nothing
        and not implementation.device.is_accelerator
        and id(implementation.kernel) in _registered()
    )


class _Calls:
    """How kernels were called in this process: it decides what is timed, and no other figure."""

    def __init__(self) -> None:
        # By id, so that no kernel's own __eq__ is asked; another may have the id of one that is gone.
        self._kinds: dict[int, tuple[ReferenceType[Any], set[Hashable]]] = {}

    def is_new(self, kernel: Any, kind: Hashable) -> bool:
        known = self._kinds.get(id(kernel))
        if known is None or known[0]() is not kernel:
            try:
                known = self._kinds[id(kernel)] = ref(kernel), set()
            except TypeError:  # it cannot be referred to weakly
                return True
        new = kind not in known[1]
        known[1].add(kind)
        return new


_CALLS = _Calls()


def first_call(
    implementation: Implementation, shape: tuple[int, ...], dtype: torch.dtype, sources: frozenset[str]
) -> bool:
    """Whether a kernel is called so for the first time, when it may still load or compile what it needs.

    Args:
        shape: of x; graphs of torch.compile, asked for here, and plain kernels serve every one.
        sources: what gradients are wanted for.
    """
    any_shape = implementation.execution.compiled or is_plain(implementation)
    kind = (
        implementation.execution.name,
        implementation.device.name,
        dtype,
        sources,
        None if any_shape else shape,
    )
    return _CALLS.is_new(implementation.kernel, kind)


__all__ = ["FEWEST", "Clock", "first_call", "is_plain"]
