"""SiLU, also called swish."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import sigmoid
from precision_lab.functions.base import Activation, Monotone

SILU = Activation(
    name="silu",
    title="SiLU",
    expression=X * sigmoid(X),
    formula="x·σ(x)",
    source="Elfwing et al., arXiv 1702.03118",
    parameters=(),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
