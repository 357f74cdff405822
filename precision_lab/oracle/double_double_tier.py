"""Runs the second tier: Σ c_k·b_k as double-double enclosures, for the inputs that the first left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.numeric.jit import entry
from precision_lab.oracle import piecewise_values
from precision_lab.oracle.curve import (
    EXP,
    EXPM1,
    FAR,
    FAR_BELOW,
    NEAR,
    POSITIVE,
    SLOTS,
    TABLE,
    VANISHED,
    X2,
    X3,
    Curve,
    Q,
    X,
)
from precision_lab.oracle.double_double import (
    BLOCK,
    EXP_RELATIVE_DD,
    Q_RELATIVE_DD,
    ball_add,
    ball_times,
    exp_block,
    parts,
    q_block,
)
from precision_lab.oracle.exponential import EXP_FLOOR_BOUND
from precision_lab.oracle.program_record import MAX_TERMS

Float64 = NDArray[np.float64]

# What nudges stand for: less than 2^-1000 each (strong ones 2^-2000), times a weight of at most 2^60
# (strong ones 2^1024), seven of them at most.
NUDGED = 2.0**-930
HEAVY = 2.0**60
TINY = 2.0**-400  # below, squares of x come near the smallest numbers


def enclose(curve: Curve, x: Float64) -> tuple[Float64, Float64, Float64, NDArray[np.int64]]:
    """high, low, radius and nudge of an output at finite nonzero x; see `decide` for nudge.

    A nudge of ±2 stands for less than 2^-1900, which is nothing in fp64 either.

    A radius of infinity means that this tier knows nothing.
    """
    slots = np.full((3, MAX_TERMS), -1, np.int64)
    weights = np.zeros((3, MAX_TERMS, 3))
    names: list[str] = []
    for stretch in range(3):
        for k, term in enumerate(curve.terms(stretch)):
            slot = SLOTS.get(term.basis)
            if slot is None:
                if term.basis not in names:
                    names.append(term.basis)
                slot = TABLE + names.index(term.basis)
            slots[stretch, k] = slot
            weights[stretch, k] = parts(term.coefficient.at(curve.params))
    tables = np.zeros((max(len(names), 1), 4, x.size))
    for values, name in zip(tables, names, strict=False):
        values[:] = piecewise_values.enclose(name, x)
    found = np.empty((3, x.size))
    nudge = np.empty(x.size, np.int64)
    factor = curve.factor()
    _enclose(x, slots, weights, tables, np.array(factor or (1.0, 0.0, 0.0, 0.0)), found, nudge)
    return found[0], found[1], found[2], nudge


@entry
def _enclose(x: Any, slots: Any, weights: Any, tables: Any, factor: Any, found: Any, nudges: Any) -> None:
    high, low, radius = found[0], found[1], found[2]
    point, qh, ql = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    eh, el, sh, sl = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, x.size, BLOCK):
        n = min(BLOCK, x.size - start)
        near = negative = False
        for i in range(n):
            near |= FAR_BELOW < x[start + i] < 0
            negative |= x[start + i] < 0
        if near:
            for i in range(n):
                point[i] = x[start + i] if FAR_BELOW < x[start + i] < 0 else -0.5
            q_block(point, n, qh, ql)
        if negative:
            for i in range(n):
                point[i] = min(x[start + i], 0.0)
            exp_block(point, n, eh, el, sh, sl)
        for i in range(n):
            p = x[start + i]
            stretch = POSITIVE if p > 0 else (FAR if p <= FAR_BELOW else NEAR)
            th, tl, tr = 0.0, 0.0, 0.0
            up = down = False
            strong = True
            for k in range(MAX_TERMS):
                slot = slots[stretch, k]
                if slot < 0:
                    break
                wh, wl, wr = weights[stretch, k, 0], weights[stretch, k, 1], weights[stretch, k, 2]
                sign = 0.0
                bh, bl, br = 1.0, 0.0, 0.0
                if slot == X:
                    bh = p
                elif slot in (X2, X3):
                    bh, bl, br = ball_times(p, 0.0, 0.0, p, 0.0, 0.0)
                    if slot == X3:
                        bh, bl, br = ball_times(bh, bl, br, p, 0.0, 0.0)
                elif slot == EXP:
                    if p < -VANISHED:
                        bh, sign = 0.0, 2.0 if p < -2 * VANISHED else 1.0
                    elif p < -700.0:
                        bh, br = 0.0, EXP_FLOOR_BOUND
                    else:
                        # Underflow costs the low part and the two products here half a step each.
                        bh, bl, br = eh[i], el[i], eh[i] * EXP_RELATIVE_DD * 1.001 + 2 * SMALLEST
                elif slot in (Q, EXPM1):
                    bh, bl, br = qh[i], ql[i], qh[i] * Q_RELATIVE_DD * 1.001
                    if p > -TINY:  # its low parts, or itself, may have underflowed
                        br += bh * 2.0**-40 + 2.0**-1060
                    if slot == EXPM1:
                        bh, bl, br = ball_add(bh, bl, br, p, 0.0, 0.0)
                elif slot >= TABLE:
                    t = tables[slot - TABLE]
                    bh, bl, br, sign = t[0, start + i], t[1, start + i], t[2, start + i], t[3, start + i]
                if abs(wh) > HEAVY:
                    if abs(sign) == 2.0:  # strong enough to bear any weight, but no longer strong
                        sign *= 0.5
                    elif sign != 0:  # too heavy to be only a sign
                        br += 2.0**-1000
                        sign = 0.0
                bh, bl, br = ball_times(wh, wl, wr, bh, bl, br)
                th, tl, tr = ball_add(th, tl, tr, bh, bl, br)
                strong &= abs(sign) != 1.0
                up |= sign * wh > 0
                down |= sign * wh < 0
            if factor[0] != 1.0 or factor[1] != 0.0 or factor[2] != 0.0:
                th, tl, tr = ball_times(th, tl, tr, factor[0], factor[1], factor[2])
            elif factor[3] != 0 and (th != 0 or tr != 0):
                # The factor is positive, so the sum's own nudges stay what they are; and it takes e^(−t) of
                # the sum away, towards 0 whatever sign the sum has. Where that sign is open, so is this.
                if abs(th) + tr > HEAVY:
                    tr += (abs(th) + tr) * 2.0**-1000
                else:
                    strong &= abs(factor[3]) != 1.0
                    up |= factor[3] * th >= 0
                    down |= factor[3] * th <= 0
            nudge = ((1 if up else 0) - (1 if down else 0)) * (2 if strong else 1)
            # Next to an exact number without digits down there the sign of what nudges stand for is all that
            # matters.
            fine = (tl == 0 or abs(tl) > 2.0**-800) and (th == 0 or abs(th) > 2.0**-800)
            if (up or down) and (up == down or tr != 0 or not fine):
                tr += NUDGED
                nudge = 0
            high[start + i], low[start + i], radius[start + i] = th, tl, tr
            nudges[start + i] = nudge


__all__ = ["enclose"]
