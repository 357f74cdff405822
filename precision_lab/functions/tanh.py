"""The hyperbolic tangent."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import tanh
from precision_lab.functions.base import Activation, Monotone

TANH = Activation(
    name="tanh",
    title="tanh",
    expression=tanh(X),
    formula="(eˣ − e^(−x))/(eˣ + e^(−x))",
    source="NIST Digital Library of Mathematical Functions, section 4.28",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
