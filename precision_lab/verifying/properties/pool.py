"""The inputs at which a kernel is examined: few enough for hundreds of calls, and of every kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from precision_lab.inputs import sets as input_sets
from precision_lab.running.case import Case

POOL = 4097
SEED = 20261

Index = NDArray[np.intp]


def pool_of(case: Case, generator: np.random.Generator) -> NDArray[np.uint64]:
    """Inputs at which kernels break and a sample of all others, shuffled: place and value independent."""
    fmt, function, params = case.fmt, case.function, case.effective
    directed = np.array([found.bits for found in input_sets.directed(fmt, function, params)], fmt.bits_dtype)
    per_binade = 4 if fmt.bits <= 16 else 2
    spread = np.union1d(directed, input_sets.stratified(fmt, function, params, per_binade=per_binade))
    if case.finite:
        spread = spread[np.isfinite(fmt.decode(spread))]
    if spread.size > POOL // 2:
        x = fmt.decode(spread)
        special = ~np.isfinite(x) | (x == 0)  # few, and each of a kind of its own
        rest = generator.choice(spread[~special], POOL // 2 - int(special.sum()), replace=False)
        spread = np.concatenate([spread[special], rest])
    # The rest where activations live, so that sums and gradients have something to add.
    normal = fmt.encode(fmt.round(generator.standard_normal(POOL - spread.size) * 2))
    return generator.permutation(np.concatenate([spread, normal]))
