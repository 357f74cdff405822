"""Mish."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

MISH = Activation(
    name="mish",
    title="Mish",
    formula="x·tanh(log(1 + eˣ))",
    source="Misra, arXiv 1908.08681, equation 1",
    negative=(Term(UNIT, "mish"),),
    positive=(Term(UNIT, "mish"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
