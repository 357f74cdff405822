"""xELU: ELU (α = 1) with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Affine, Parameter, Term, theta

XELU = Activation(
    name="xelu",
    title="xELU",
    formula="(1 + 2α)·ELU(x) − α·x",
    source="arXiv 2411.13010, section 2",
    negative=(Term(Affine(1, (("alpha", 2),)), "expm1"), Term(theta("alpha", -1), "x")),
    positive=(Term(Affine(1, (("alpha", 1),)), "x"),),
    parameters=(Parameter("alpha", 0.8, positive=True, raw="softplus"),),
    continuous=("forward", "grad_x", "grad_alpha"),
    laws=(),
)
