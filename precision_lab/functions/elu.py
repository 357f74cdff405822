"""ELU, and the base of xELU."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone, Parameter
from precision_lab.functions.terms import UNIT, Term, theta

ELU = Activation(
    name="elu",
    title="ELU",
    formula="x (x > 0); α·(eˣ − 1) (x ≤ 0)",
    source="Clevert et al., arXiv 1511.07289; arXiv 2411.13010, equation 1",
    negative=(Term(theta("alpha"), "expm1"),),
    positive=(Term(UNIT, "x"),),
    parameters=(Parameter("alpha", 1.0, positive=True, raw="identity"),),
    continuous=("forward", "grad_alpha"),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
