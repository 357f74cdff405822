"""xIELU at the fp32 numbers next to its roots, where Triton's kernels do not serve: float64 has too few
digits left.

An fp32 number may lie within 2^-30 of a root r of f, which is then the difference of terms that agree in
all but the last bits of float64. With r to twice that precision, f(r + t) = α_n·e^r·(e^t − 1 − t) + f′(r)·t
does not cancel, and f′(s + t) = (α_n − β)·(e^t − 1) next to the root s of f′.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mpmath
import torch
from torch import Tensor

REACH = 2.0**-10  # of the root, or of 1: there e^t − 1 − t to t⁴ leaves out 2^-44 of f


@dataclass(frozen=True)
class Roots:
    """Of f: high + low, f′ there and α_n·e^r. Of f′: high + low. And α_n − β."""

    root: tuple[float, float]
    slope: float
    weight: float
    flat: tuple[float, float]
    gap: float


@lru_cache(maxsize=256)
def find(alpha_n: float, beta: float) -> Roots | None:
    """None where α_n and β leave f and f′ without a root at x < 0."""
    if not (alpha_n and 0 < beta / alpha_n < 1):
        return None
    context = mpmath.mp.clone()
    context.prec = 160
    a, b = context.mpf(alpha_n), context.mpf(beta)
    rho = b / a
    # Newton's method from left of the root, on a convex function; see `triton_elements.root_of_f`.
    root = -min(context.mpf(1), 2 * rho) / (1 - rho)
    for _ in range(12):
        growth = context.expm1(root)
        root -= (growth - root + rho * root) / (growth + rho)
    flat = context.log1p(-rho)

    def pair(value: mpmath.mpf) -> tuple[float, float]:
        return float(value), float(value - context.mpf(float(value)))

    slope = a * context.expm1(root) + b
    return Roots(pair(root), float(slope), float(a * context.exp(root)), pair(flat), float(a - b))


def _chosen(x: Tensor, place: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Indices of the elements next to a root, and how far beyond it they lie."""
    high, low = place
    index = ((x.double() - high).abs() <= REACH * min(-high, 1.0)).nonzero(as_tuple=True)
    return index, (x[index].double() - high) - low  # type: ignore[return-value]


def mend_forward(x: Tensor, y: Tensor, found: Roots) -> None:
    """Overwrites y = f(x) next to the root of f."""
    index, t = _chosen(x, found.root)
    s = ((t / 24 + 1 / 6) * t + 0.5) * t
    y[index] = (t * (found.slope + found.weight * s)).to(y.dtype)


def mend_gradient(x: Tensor, dy: Tensor, d_x: Tensor, found: Roots) -> None:
    """Overwrites d_x = dy·f′(x) next to the root of f′."""
    index, t = _chosen(x, found.flat)
    d_x[index] = (dy[index].double() * (found.gap * torch.expm1(t))).to(d_x.dtype)
