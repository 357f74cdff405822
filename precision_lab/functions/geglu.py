"""GEGLU: GELU of one input times another."""

from __future__ import annotations

from precision_lab.formula.expression import symbol
from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.gelu import GELU

GEGLU = Activation(
    name="geglu",
    title="GEGLU",
    expression=symbol("b") * GELU.expression,
    formula="GELU(x)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    parameters=(Parameter("b", 1.5, operand=True),),
    laws=(),
)
