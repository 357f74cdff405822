"""Softplus: the constraint that keeps α positive."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import softplus
from precision_lab.functions.base import Activation, Monotone

SOFTPLUS = Activation(
    name="softplus",
    title="softplus",
    expression=softplus(X),
    formula="log(1 + eˣ)",
    source="Dugas et al., NIPS 2000",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
