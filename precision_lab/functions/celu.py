"""CELU for α = 1, torch's default, where it is ELU with α = 1.

There is no α: of α·(e^(x/α) − 1) only the factor before the bracket is affine in α, and coefficients
have to be.
"""

from __future__ import annotations

from precision_lab.formula.expression import X, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Activation, Monotone

CELU = Activation(
    name="celu",
    title="CELU (α = 1)",
    expression=where(X > 0, X, expm1(X)),
    formula="x (x > 0); eˣ − 1 (x ≤ 0)",
    source="Barron, arXiv 1704.07483, for α = 1",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
