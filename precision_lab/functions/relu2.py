"""Squared ReLU."""

from __future__ import annotations

from precision_lab.formula.expression import X, where
from precision_lab.functions.base import Activation, Monotone

RELU2 = Activation(
    name="relu2",
    title="ReLU²",
    expression=where(X > 0, X**2, 0),
    formula="max(x, 0)²",
    source="So et al., Primer, arXiv 2109.08668; arXiv 2411.13010, equations 2-3",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
