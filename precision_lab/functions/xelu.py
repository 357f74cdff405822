"""xELU: ELU (α = 1) with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.base import Activation
from precision_lab.functions.expanded import ALPHA, SCALE
from precision_lab.functions.terms import Affine, Term, theta

XELU = Activation(
    name="xelu",
    title="xELU",
    formula="(1 + 2α)·ELU(x) − α·x",
    source="arXiv 2411.13010, section 2",
    negative=(Term(SCALE, "expm1"), Term(theta("alpha", -1), "x")),
    positive=(Term(Affine(1, (("alpha", 1),)), "x"),),
    parameters=(ALPHA,),
    continuous=("forward", "grad_x", "grad_alpha"),
    laws=(),
)
