"""GEGLU with the tanh form of GELU, a function of its own."""

from __future__ import annotations

from precision_lab.formula.expression import symbol
from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.gelu_tanh import GELU_TANH

GEGLU_TANH = Activation(
    name="geglu_tanh",
    title="GEGLU (tanh)",
    expression=symbol("b") * GELU_TANH.expression,
    formula="½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))·b",
    source="Shazeer, arXiv 2002.05202, equation 5; Hendrycks and Gimpel, arXiv 1606.08415, section 2",
    parameters=(Parameter("b", 1.5, operand=True),),
    laws=(),
)
