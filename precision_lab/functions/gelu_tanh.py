"""The tanh form of GELU, a function of its own."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

GELU_TANH = Activation(
    name="gelu_tanh",
    title="GELU (tanh)",
    formula="½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))",
    source="Hendrycks and Gimpel, arXiv 1606.08415, section 2",
    negative=(Term(UNIT, "gelu_tanh"),),
    positive=(Term(UNIT, "gelu_tanh"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
