"""SELU: ELU with constants that keep mean and variance."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Activation, Monotone, Parameter

SELU = Activation(
    name="selu",
    title="SELU",
    expression=where(X > 0, symbol("scale") * X, symbol("scale_alpha") * expm1(X)),
    formula="λ·x (x > 0); λα·(eˣ − 1) (x ≤ 0)",
    source="Klambauer et al., arXiv 1706.02515, equation 2; its constants to float64",
    parameters=(
        Parameter("scale", 1.0507009873554805, trainable=False, positive=True),
        Parameter("scale_alpha", 1.7580993408473766, trainable=False, positive=True),
    ),
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
