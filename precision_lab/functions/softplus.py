"""Softplus: the constraint that keeps α positive."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

SOFTPLUS = Activation(
    name="softplus",
    title="softplus",
    formula="log(1 + eˣ)",
    source="Dugas et al., NIPS 2000",
    negative=(Term(UNIT, "softplus"),),
    positive=(Term(UNIT, "softplus"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
