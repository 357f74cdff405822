"""FP64's fused multiply-add, which numpy does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.numeric.jit import entry, fma

Float64 = NDArray[np.float64]


@entry
def _fused(a: Any, b: Any, c: Any, result: Any) -> None:
    for k in range(result.size):
        result[k] = fma(a[k], b[k], c[k])


def fused(a: Float64, b: Float64, c: Float64) -> Float64:
    """a·b + c, rounded once; the arguments have one shape (n,), or (1,)."""
    a, b, c = (np.ascontiguousarray(v) for v in np.broadcast_arrays(a, b, c))
    result = np.empty_like(c)
    _fused(a, b, c, result)
    return result
