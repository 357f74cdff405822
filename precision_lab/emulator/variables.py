"""Where the variables of modules lie in a device's memory."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

import numpy as np

from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Variable

_LOCK = threading.Lock()
_PLACES: WeakKeyDictionary[Memory, dict[int, tuple[Variable, int]]] = WeakKeyDictionary()


def place(memory: Memory, variable: Variable) -> int:
    """The address of a module's variable: made at the first launch that names it, and kept.

    All kernels of a module have one variable, whichever engine executes them.
    """
    with _LOCK:
        known = _PLACES.setdefault(memory, {})
        if id(variable) not in known:  # which is held there, so that no other can have its number
            content = np.zeros(max(variable.size, 1), np.uint8)
            content[: len(variable.initial)] = np.frombuffer(variable.initial, np.uint8)
            known[id(variable)] = (variable, memory.put(content))
        return known[id(variable)][1]
