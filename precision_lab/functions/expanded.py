"""Gating ranges widened from (0, 1) to (−α, 1 + α): (1 + 2α)·f(x) − α·x for a base f."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Affine, Term, theta

ALPHA = Parameter("alpha", 0.8, positive=True, raw="softplus")
SCALE = Affine(1, (("alpha", 2),))


def expanded(base: str, title: str, place: str = "section 2") -> Activation:
    """x<base> for a base that is one basis function on both sides of 0; `place` in arXiv 2411.13010."""
    terms = (Term(SCALE, base), Term(theta("alpha", -1), "x"))
    return Activation(
        name=f"x{base}",
        title=f"x{title}",
        formula=f"(1 + 2α)·{title}(x) − α·x",
        source=f"Huang, Expanded Gating Ranges, arXiv 2405.20768; arXiv 2411.13010, {place}",
        negative=terms,
        positive=terms,
        parameters=(ALPHA,),
        continuous=("forward", "grad_x", "grad_alpha"),
    )
