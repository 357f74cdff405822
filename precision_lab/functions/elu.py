"""ELU, and the base of xELU."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Activation, Monotone, Parameter

ELU = Activation(
    name="elu",
    title="ELU",
    expression=where(X > 0, X, symbol("alpha") * expm1(X)),
    formula="x (x > 0); α·(eˣ − 1) (x ≤ 0)",
    source="Clevert et al., arXiv 1511.07289; arXiv 2411.13010, equation 1",
    parameters=(Parameter("alpha", 1.0, positive=True, raw="identity"),),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
