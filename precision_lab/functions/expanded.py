"""Gating ranges widened from (0, 1) to (−α, 1 + α): (1 + 2α)·f(x) − α·x for a base f."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol
from precision_lab.functions.base import Activation, Parameter

ALPHA = Parameter("alpha", 0.8, positive=True, raw="softplus")


def expanded(base: Activation, place: str = "section 2") -> Activation:
    """x<base>; `place` in arXiv 2411.13010."""
    alpha = symbol("alpha")
    return Activation(
        name=f"x{base.name}",
        title=f"x{base.title}",
        expression=(1 + 2 * alpha) * base.expression - alpha * X,
        formula=f"(1 + 2α)·{base.title}(x) − α·x",
        source=f"Huang, Expanded Gating Ranges, arXiv 2405.20768; arXiv 2411.13010, {place}",
        parameters=(ALPHA,),
    )
