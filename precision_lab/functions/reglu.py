"""ReGLU: ReLU of one input times another."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Term, theta

REGLU = Activation(
    name="reglu",
    title="ReGLU",
    formula="max(x, 0)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    negative=(),
    positive=(Term(theta("b"), "x"),),
    parameters=(Parameter("b", 1.5, operand=True),),
    continuous=("forward", "grad_b"),
    laws=(),
)
