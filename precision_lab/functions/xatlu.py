"""xATLU: ATLU with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Affine, Parameter, Term, theta

TERMS = (Term(Affine(1, (("alpha", 2),)), "atlu"), Term(theta("alpha", -1), "x"))

XATLU = Activation(
    name="xatlu",
    title="xATLU",
    formula="(1 + 2α)·ATLU(x) − α·x",
    source="Huang, Expanded Gating Ranges, arXiv 2405.20768; arXiv 2411.13010 section 2",
    negative=TERMS,
    positive=TERMS,
    parameters=(Parameter("alpha", 0.8, positive=True, raw="softplus"),),
    continuous=("forward", "grad_x", "grad_alpha"),
    laws=(),
)
