"""What a kernel may change in the process it runs in: torch's switches, put back after each call and named.

Put back at once, since the lab's own tensors are made by the same torch: a default device that a
kernel has set would move them too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from precision_lab.exceptions import EnvironmentAltersResultsError

# What was changed since it was last asked, in words; a dictionary keeps each once, in order.
_changed: dict[str, None] = {}


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _set_device(device: torch.device) -> None:
    # A default that was never set is no mode of torch's; "cpu" set by hand would be one, and cost every call.
    torch.set_default_device(None if device.type == "cpu" else device)


# Name, how it is read, how it is put back.
_SWITCHES: tuple[tuple[str, Callable[[], Any], Callable[[Any], object]], ...] = (
    ("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    ("recording of gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    ("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    ("torch's deterministic algorithms (on, only warning)", _deterministic, _set_deterministic),
    ("torch's default device", torch.get_default_device, _set_device),
)


@contextmanager
def switches_kept() -> Iterator[None]:
    """Around a call of a kernel: every switch is as it was afterwards, and what was not is remembered.

    Drawing random numbers is a kernel's good right; seeding torch's generator anew is not, since all that
    is drawn afterwards, wherever, repeats itself.
    """
    before = [read() for _, read, _ in _SWITCHES]
    seed, state = torch.initial_seed(), torch.get_rng_state()
    try:
        yield
    finally:
        for (name, read, put), value in zip(_SWITCHES, before, strict=True):
            found = read()
            if found != value:
                _changed[f"{name} was changed from {value} to {found}"] = None
                put(value)
        if torch.initial_seed() != seed:
            _changed[f"torch's random generator was seeded with {torch.initial_seed()}"] = None
            torch.set_rng_state(state)


def changed_switches() -> list[str]:
    """What calls have changed since this was last asked."""
    found = list(_changed)
    _changed.clear()
    return found


def flushing_off(error: EnvironmentAltersResultsError) -> str:
    """Switches flushing off in this thread; what is said of a kernel that had switched it on."""
    torch.set_flush_denormal(False)
    return f"{error}. It was switched off again"


@contextmanager
def random_state_kept() -> Iterator[None]:
    """The states of torch's, numpy's and Python's global generators, put back at the end."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
