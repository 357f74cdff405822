"""SHFL and VOTE: what threads of a warp tell each other."""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import WARP
from precision_lab.emulator.reference.lanes import Mask
from precision_lab.emulator.reference.spaces import fault
from precision_lab.emulator.sass.code import SassInstruction
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

_LANE = np.arange(WARP)


def shuffle(i: SassInstruction) -> Step:
    """Another lane's value, and whether that lane is in range."""
    words = Words(i)
    mode = words.one_of(("UP", "DOWN", "BFLY", "IDX"))
    words.end()
    if not mode or len(i.arguments) != 5:
        raise unsupported(i)
    p, to, source, by, bounds = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        value, b, c = (lanes.spread(lanes.integer(i, o)).reshape(-1, WARP) for o in (source, by, bounds))
        b, c = b.astype(np.int64) & 31, c.astype(np.int64)
        clamp, segment = c & 31, (c >> 8) & 31
        low = _LANE & segment
        high = low | (clamp & ~segment)
        other = {"UP": _LANE - b, "DOWN": _LANE + b, "BFLY": _LANE ^ b, "IDX": low | (b & ~segment)}[mode]
        inside = other >= high if mode == "UP" else other <= high
        other = np.where(inside, other, _LANE)
        here = (np.ones(lanes.n, bool) if live is None else live).reshape(-1, WARP)
        silent = here & ~np.take_along_axis(here, other, 1)
        if silent.any():
            lane = int(np.flatnonzero(silent.reshape(-1))[0])
            words = "a shuffle reads of a thread that is not there with it"
            raise fault(lanes, i, "divergent_barrier", words, lane)
        lanes.put(i, to, np.take_along_axis(value, other, 1).reshape(-1), live)
        lanes.put(i, p, inside.reshape(-1), live)
        lanes.machine.order.warp_barrier(np.asarray(here.any(1)))

    return step


def vote(i: SassInstruction) -> Step:
    """VOTE: whether a predicate holds for all or any of the live lanes, and for which."""
    words = Words(i)
    mode = words.one_of(("ALL", "ANY", "EQ"))
    words.end()
    if mode == "EQ" or not mode:
        raise unsupported(i)
    *outs, source = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        here = (np.ones(lanes.n, bool) if live is None else live).reshape(-1, WARP)
        p = lanes.spread(lanes.truth(i, source)).reshape(-1, WARP) & here
        ballot = (p.astype(np.uint64) << _LANE.astype(np.uint64)).sum(1).astype(np.uint32)
        found = p.any(1) if mode == "ANY" else (p | ~here).all(1)
        for o in outs:
            value = np.repeat(ballot if o.kind == "R" else found, WARP)
            lanes.put(i, o, value, live)

    return step
