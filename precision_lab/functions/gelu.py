"""GELU through the normal distribution function."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

GELU = Activation(
    name="gelu",
    title="GELU",
    formula="x·Φ(x)",
    source="Hendrycks and Gimpel, arXiv 1606.08415",
    negative=(Term(UNIT, "gelu"),),
    positive=(Term(UNIT, "gelu"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
