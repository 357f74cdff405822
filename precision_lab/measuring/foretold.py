"""What an exhaustive measurement of a formula will take.

Inputs that have no polynomial piece are Arb's, one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from precision_lab.formats import FP32
from precision_lab.functions import Activation
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.formula_tables import hopeless, table

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
        e = function.bound_expression(output, params)
        counts = {sign: hopeless(e, sign) for sign in (-1, 1)}
        total = sum(counts.values())
        if total < FEWEST:
            continue
        x = np.concatenate([_sample(table(e, sign), sign) for sign, count in counts.items() if count])
        began = time.perf_counter()
        certified_reference(function, output, params, x, FP32)
        seconds = (time.perf_counter() - began) / x.size * total / threads
        yield (
            f"{function.name}.{output}: {total:,} of the 2^32 inputs have no polynomial that is good enough; "
            f"Arb takes "
            f"them one by one, about {_duration(seconds)} on this machine"
        )


def _sample(found: object, sign: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Numbers of one sign without a piece, spread over the binades that have any."""
    layout, bounds = found.layout, found.bounds  # type: ignore[attr-defined]
    c = int(layout[0])
    binades = [
        c + k for k in range((layout.size - 3) // 2)
        if np.isinf(bounds[layout[4 + 2 * k] : layout[4 + 2 * k] + (1 << layout[3 + 2 * k])]).any()
    ] or [c - 1]  # fmt: skip
    draw = np.random.Generator(np.random.PCG64(7))
    starts = [
        np.float32(2.0) ** int(draw.choice(binades)) * np.float32(draw.uniform(1, 1.9)) for _ in range(RUNS)
    ]
    codes = np.concatenate([start.view(np.uint32) + np.arange(RUN, dtype=np.uint32) for start in starts])
    return np.asarray(sign * codes.view(np.float32), np.float64)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
