"""PReLU."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.functions.base import Activation, Monotone, Parameter

PRELU = Activation(
    name="prelu",
    title="PReLU",
    expression=where(X > 0, X, symbol("alpha") * X),
    formula="x (x > 0); α·x (x ≤ 0)",
    source="He et al., arXiv 1502.01852, equation 1",
    parameters=(Parameter("alpha", 0.25, positive=True, raw="identity"),),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
