"""ReGLU: ReLU of one input times another."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.functions.base import Activation, Parameter

REGLU = Activation(
    name="reglu",
    title="ReGLU",
    expression=where(X > 0, symbol("b") * X, 0),
    formula="max(x, 0)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    parameters=(Parameter("b", 1.5, operand=True),),
    laws=(),
)
