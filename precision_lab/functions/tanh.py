"""The hyperbolic tangent."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

TANH = Activation(
    name="tanh",
    title="tanh",
    formula="(eˣ − e^(−x))/(eˣ + e^(−x))",
    source="NIST Digital Library of Mathematical Functions, section 4.28",
    negative=(Term(UNIT, "tanh"),),
    positive=(Term(UNIT, "tanh"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
