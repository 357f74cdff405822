"""SwiGLU: SiLU of one input times another, which is treated as an x-shaped parameter."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Term, theta

SWIGLU = Activation(
    name="swiglu",
    title="SwiGLU",
    formula="SiLU(x)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    negative=(Term(theta("b"), "silu"),),
    positive=(Term(theta("b"), "silu"),),
    parameters=(Parameter("b", 1.5, operand=True),),
    continuous=("forward", "grad_x", "grad_b"),
    laws=(),
)
