"""GEGLU: GELU of one input times another."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Term, theta

GEGLU = Activation(
    name="geglu",
    title="GEGLU",
    formula="GELU(x)·b",
    source="Shazeer, arXiv 2002.05202, equation 5",
    negative=(Term(theta("b"), "gelu"),),
    positive=(Term(theta("b"), "gelu"),),
    parameters=(Parameter("b", 1.5, operand=True),),
    continuous=("forward", "grad_x", "grad_b"),
    laws=(),
)
