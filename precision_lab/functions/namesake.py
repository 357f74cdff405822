"""A user's function that is called as one of the lab's is: results would not tell them apart."""

from __future__ import annotations

import math
import random

from precision_lab.exceptions import UsageError
from precision_lab.formula.plain_values import plain_value
from precision_lab.functions.base import Activation

POINTS = (-30.5, -3.0, -1.25, -0.5, -1e-3, 0.0, 1e-3, 0.5, 1.0, 2.75, 3.0, 6.0, 7.5, 30.5)
TOLERANCE = 2.0**-40


def check_namesake(own: Activation, known: Activation) -> None:
    """
    Raises:
        ValueError: they are not the same function of the same parameters, at points where both are evaluated.
    """
    if own.expression is known.expression:
        return
    where = f"function={own.home!r}: the lab has a function {own.name!r} of its own"
    shared = {p.name for p in own.parameters} & {p.name for p in known.parameters}
    draw = random.Random(7)
    # Parameters that only one of them has keep their defaults: quick_gelu(x, beta=1.702) is quick_gelu(x)
    # there.
    moved = {p.name: p.default * (1 + draw.random() / 4) for p in own.parameters if p.name in shared}
    for x in POINTS:
        mine, theirs = (
            float(plain_value(f.expression, {p.name: p.default for p in f.parameters} | moved | {"x": x}))
            for f in (own, known)
        )
        if math.isnan(mine) != math.isnan(theirs) or abs(mine - theirs) > TOLERANCE * abs(theirs):
            raise UsageError(
                f"{where}, which is {theirs!r} at x={x!r} where this is {mine!r}; give it another name"
            )
