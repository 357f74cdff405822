"""PReLU."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone, Parameter
from precision_lab.functions.terms import UNIT, Term, theta

PRELU = Activation(
    name="prelu",
    title="PReLU",
    formula="x (x > 0); α·x (x ≤ 0)",
    source="He et al., arXiv 1502.01852, equation 1",
    negative=(Term(theta("alpha"), "x"),),
    positive=(Term(UNIT, "x"),),
    parameters=(Parameter("alpha", 0.25, positive=True, raw="identity"),),
    continuous=("forward", "grad_alpha"),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
