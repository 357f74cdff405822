"""The logistic sigmoid."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import sigmoid
from precision_lab.functions.base import Activation, Monotone

SIGMOID = Activation(
    name="sigmoid",
    title="sigmoid",
    expression=sigmoid(X),
    formula="1/(1 + e^(−x))",
    source="Rumelhart, Hinton and Williams, Nature 323 (1986), equation 2",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
