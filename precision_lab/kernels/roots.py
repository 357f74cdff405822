"""xIELU next to its roots, where float64 has too few digits left: there in 400 bits.

An fp32 number may lie within 2^-50 of a root of f or of f′, whose terms then agree in all but the last bits
of float64. With T the size of these terms (`cancelled` below), float64 gives f and f′ within 2^-49·T:
expm1(x) and e^x within 2^-52 of themselves, and expm1(x) − x, down to where it is used, within 2^-50 of
itself. A value of 2^-22·T or more is then within 2^-27 of itself, an eighth of a unit in fp32's last place
at most; what is smaller is computed again. Those are the fp32 numbers within 2^-22 of a root, or a small
multiple of that: a dozen or so at each.
"""

from __future__ import annotations

import mpmath
import torch
from torch import Tensor

SMALL = 2.0**-22
_EXACT = mpmath.mp.clone()
_EXACT.prec = 400  # e^x − 1 − x loses 150 of them at fp32's smallest x, the root up to 100


def _value(x: float, alpha_n: float, beta: float) -> float:
    return float(alpha_n * (_EXACT.expm1(x) - _EXACT.mpf(x)) + beta * _EXACT.mpf(x))


def _slope(x: float, alpha_n: float, beta: float) -> float:
    return float(alpha_n * _EXACT.expm1(x) + _EXACT.mpf(beta))


@torch.library.custom_op("precision_lab::xielu_beside_roots", mutates_args=("found",))
def mend(found: Tensor, x: Tensor, alpha_n: Tensor, beta: Tensor, derivative: bool) -> None:
    """Overwrites what float64 found of f(x), or f′(x), where it is small beside the terms that cancel.

    An operator, so that compiled code leaves it as it is.

    Args:
        found: on x ≤ 0, float64, shape of x. x: at most 0, float64.
        alpha_n, beta: float64, broadcast to x.
    """
    # At x ≥ −1 f is α_n·q + β·x and f′ is β + α_n·expm1(x); below, f is α_n·e^x + ((β − α_n)·x − α_n), whose
    # terms near a root are of size α_n, and f′ is (β − α_n) + α_n·e^x.
    terms = beta.abs() if derivative else (beta * x).abs()
    cancelled = torch.minimum(terms, (alpha_n - beta).abs() if derivative else alpha_n.abs())
    few = found.abs() < SMALL * cancelled
    if not bool(few.any()):
        return
    exactly = _slope if derivative else _value
    rows = torch.stack([value.expand(found.shape)[few] for value in (x, alpha_n, beta)])
    different, which = torch.unique(rows, dim=1, return_inverse=True)
    values = [exactly(*column) for column in different.t().tolist()]
    found[few] = torch.tensor(values, dtype=found.dtype, device=found.device)[which]


@mend.register_fake
def _(found: Tensor, x: Tensor, alpha_n: Tensor, beta: Tensor, derivative: bool) -> None:
    return None
