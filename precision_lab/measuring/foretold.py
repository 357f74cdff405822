"""What an exhaustive measurement of a formula will take.

Inputs that have no polynomial piece are Arb's, one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from precision_lab.formats import FP32
from precision_lab.functions import Activation
from precision_lab.inputs.cells import EMPTY_STRETCH, cells
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.formula_tables import tables, without_piece
from precision_lab.oracle.piecewise_compiler import Table

FEWEST = 1 << 22  # inputs that take no more than some seconds, of which nothing is said
RUNS, RUN = 6, 4096  # neighbouring inputs that are timed, as they will come


def slow_inputs(
    function: Activation, outputs: Sequence[str], params: Mapping[str, float], *, threads: int = 1
) -> Iterator[str]:
    """A sentence for every output of which many fp32 inputs have no piece: how many.

    And how long they will take here.
    """
    for output in outputs:
        if function.has_terms(output):
            continue
        binades = {
            sign: _left_to_arb(function, params, found, sign)
            for sign, found in zip((-1, 1), tables(function, output, params), strict=True)
        }
        total = sum(sum(counts.values()) for counts in binades.values())
        if total < FEWEST:
            continue
        x = np.concatenate([_sample(list(counts), sign) for sign, counts in binades.items() if counts])
        began = time.perf_counter()
        certified_reference(function, output, params, x, FP32)
        seconds = (time.perf_counter() - began) / x.size * total / threads
        yield (
            f"{function.name}.{output}: {total:,} of the 2^32 inputs have no polynomial that is good enough; "
            f"Arb takes "
            f"them one by one, about {_duration(seconds)} on this machine"
        )


def _left_to_arb(
    function: Activation, params: Mapping[str, float], found: Table, sign: int
) -> dict[int, int]:
    """Numbers without a piece by their binade's exponent; where there is no value at all, none is asked."""
    counts = dict(without_piece(found))
    own = cells(FP32, function, params)
    size = np.diff(np.append(own.starts, np.uint64(1 << FP32.bits)).astype(np.int64))
    for cell in np.flatnonzero((own.stretch == EMPTY_STRETCH) & (own.sign == sign)):
        e = int(own.exponent[cell])
        counts[e] = counts.get(e, 0) - int(size[cell])
    return {e: count for e, count in counts.items() if count > 0}


def _sample(binades: Sequence[int], sign: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Numbers of one sign, spread over binades."""
    draw = np.random.Generator(np.random.PCG64(7))
    starts = [
        np.float32(2.0) ** int(draw.choice(binades)) * np.float32(draw.uniform(1, 1.9)) for _ in range(RUNS)
    ]
    codes = np.concatenate([start.view(np.uint32) + np.arange(RUN, dtype=np.uint32) for start in starts])
    return np.asarray(sign * codes.view(np.float32), np.float64)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
