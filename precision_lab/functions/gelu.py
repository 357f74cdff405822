"""GELU through the normal distribution function."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import erf, sqrt
from precision_lab.functions.base import Activation, Monotone

GELU = Activation(
    name="gelu",
    title="GELU",
    expression=X * (1 + erf(X / sqrt(2))) / 2,
    formula="x·Φ(x)",
    source="Hendrycks and Gimpel, arXiv 1606.08415",
    parameters=(),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
