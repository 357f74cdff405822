"""Parameters and inputs that are hard for stable kernels, tried in the interpreter and as compiled."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

from precision_lab.formats import get_format

EDGES: tuple[dict[str, float], ...] = (
    {"alpha_p": 3.0, "alpha_n": 0.5, "beta": 0.5},  # β = α_n: the linear part vanishes
    {"alpha_p": 0.1, "alpha_n": 200.0, "beta": 0.5},  # roots close to 0
    {"alpha_p": 0.5, "alpha_n": 0.5078125, "beta": 0.5},  # roots far out
    {"alpha_p": 1.0, "alpha_n": 1.0, "beta": 0.0},
    {"alpha_p": 0.25, "alpha_n": 0.75, "beta": -0.5},  # a root at x > 0
)
NEIGHBOURS = 20  # on either side of a root


def beside_roots(alpha_n: float, beta: float = 0.5) -> np.ndarray[Any, np.dtype[np.float64]]:
    """fp32 numbers next to the roots of f and f′, which mpmath finds; next to −1 where there are none."""
    fmt, rho = get_format("fp32"), mpmath.mpf(beta) / alpha_n
    places = [mpmath.mpf(-1)]
    if 0 < rho < 1:
        with mpmath.workprec(400):
            root = -min(mpmath.mpf(1), 2 * rho) / (1 - rho)  # left of it, where f is convex: Newton's
            for _ in range(20):
                root -= (mpmath.expm1(root) - root + rho * root) / (mpmath.expm1(root) + rho)
            places = [root, mpmath.log1p(-rho)]
    found = []
    for place in places:
        centre = int(fmt.ordinal(fmt.round(np.array([float(place)])))[0])
        found.append(fmt.from_ordinal(np.arange(centre - NEIGHBOURS, centre + NEIGHBOURS + 1)))
    return np.unique(np.concatenate(found))
