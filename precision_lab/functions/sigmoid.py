"""The logistic sigmoid."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

SIGMOID = Activation(
    name="sigmoid",
    title="sigmoid",
    formula="1/(1 + e^(−x))",
    source="Rumelhart, Hinton and Williams, Nature 323 (1986), equation 2",
    negative=(Term(UNIT, "sigmoid"),),
    positive=(Term(UNIT, "sigmoid"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
