"""ReLU."""

from __future__ import annotations

from precision_lab.formula.expression import X, where
from precision_lab.functions.base import Activation, Monotone

RELU = Activation(
    name="relu",
    title="ReLU",
    expression=where(X > 0, X, 0),
    formula="max(x, 0)",
    source="Nair and Hinton, ICML 2010",
    parameters=(),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
