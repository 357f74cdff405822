"""Exact values input by input, of mpmath's balls alone: slow, and nothing in it is compiled.

It stands in for the module that certifies every input of a narrow format, with its name and arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from mpmath.libmp import from_float, fzero

from precision_lab.formats import FloatFormat
from precision_lab.formats.ball_rounding import round_ball
from precision_lab.functions import Activation
from precision_lab.oracle import Reference
from precision_lab.oracle.curve import Curve
from precision_lab.oracle.record import SPECIAL

ladder: Any = importlib.import_module("precision_lab.oracle.reference")


def certified_reference(
    function: Activation, output: str, params: Mapping[str, float], x: Any, fmt: FloatFormat,
    *, saturating: bool = False,
) -> Reference:  # fmt: skip
    curve, n = Curve(function, output, function.check_params(params)), x.size
    found = Reference(
        fmt, np.zeros(n), np.zeros(n), np.full(n, fmt.min_subnormal), np.zeros(n),
        np.zeros(n, np.int8), np.full(n, SPECIAL, np.uint8), np.zeros(n, np.bool_),
    )  # fmt: skip
    for i, point in enumerate(x.tolist()):
        if np.isfinite(point):
            ladder._mpmath_tier(curve, point, i, found, saturating)
            continue
        limit = point if np.isnan(point) else function.limit(output, curve.params, 1 if point > 0 else -1)
        found.exact[i] = limit
        if np.isfinite(limit):
            rounded, tail, _, ulp, _ = round_ball(from_float(limit), fzero, fmt, saturating=saturating)
            found.rounded[i], found.tail[i], found.ulp[i] = rounded, tail, ulp
        else:
            found.rounded[i] = fmt.overflow(np.array([limit]), saturating=saturating)[0]
        found.sign[i] = 0 if np.isnan(limit) else np.sign(limit)
    return found
