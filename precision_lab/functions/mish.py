"""Mish."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import softplus, tanh
from precision_lab.functions.base import Activation, Monotone

MISH = Activation(
    name="mish",
    title="Mish",
    expression=X * tanh(softplus(X)),
    formula="x·tanh(log(1 + eˣ))",
    source="Misra, arXiv 1908.08681, equation 1",
    parameters=(),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
