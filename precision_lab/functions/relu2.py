"""Squared ReLU."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

RELU2 = Activation(
    name="relu2",
    title="ReLU²",
    formula="max(x, 0)²",
    source="So et al., Primer, arXiv 2109.08668; arXiv 2411.13010, equations 2-3",
    negative=(),
    positive=(Term(UNIT, "x^2"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
