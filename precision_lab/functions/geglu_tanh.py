"""GEGLU with the tanh form of GELU, a function of its own."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Term, theta

GEGLU_TANH = Activation(
    name="geglu_tanh",
    title="GEGLU (tanh)",
    formula="½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))·b",
    source="Shazeer, arXiv 2002.05202, equation 5; Hendrycks and Gimpel, arXiv 1606.08415, section 2",
    negative=(Term(theta("b"), "gelu_tanh"),),
    positive=(Term(theta("b"), "gelu_tanh"),),
    parameters=(Parameter("b", 1.5, operand=True),),
    continuous=("forward", "grad_x", "grad_b"),
    laws=(),
)
