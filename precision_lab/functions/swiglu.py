"""SwiGLU: SiLU of one input times another, which is treated as an x-shaped parameter."""

from __future__ import annotations

from precision_lab.formula.expression import symbol
from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.silu import SILU

SWIGLU = Activation(
    name="swiglu",
    title="SwiGLU",
    expression=symbol("b") * SILU.expression,
    formula="SiLU(x)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    parameters=(Parameter("b", 1.5, operand=True),),
    laws=(),
)
