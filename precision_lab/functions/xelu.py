"""xELU: ELU (α = 1) with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Activation
from precision_lab.functions.expanded import ALPHA

XELU = Activation(
    name="xelu",
    title="xELU",
    expression=where(
        X > 0, (1 + symbol("alpha")) * X, (1 + 2 * symbol("alpha")) * expm1(X) - symbol("alpha") * X
    ),
    formula="(1 + 2α)·ELU(x) − α·x",
    source="arXiv 2411.13010, section 2",
    parameters=(ALPHA,),
    laws=(),
)
