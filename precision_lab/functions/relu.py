"""ReLU."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

RELU = Activation(
    name="relu",
    title="ReLU",
    formula="max(x, 0)",
    source="Nair and Hinton, ICML 2010",
    negative=(),
    positive=(Term(UNIT, "x"),),
    parameters=(),
    continuous=("forward",),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
