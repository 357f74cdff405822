"""CELU, whose gradient is continuous for every α; for α = 1, torch's default, it is ELU with α = 1.

α is no trained parameter: torch takes it as a number.
"""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="CELU",
    source="Barron, arXiv 1704.07483",
    formula="x (x > 0); α·(e^(x/α) − 1) (x ≤ 0)",
    fixed=("alpha",),
    positive=("alpha",),
    alpha=1.0,
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
    parameter_sets={"init": {"alpha": 1.0}, "narrow": {"alpha": 0.25}, "wide": {"alpha": 2.0}},
)
def celu(x: Expression, alpha: Expression) -> Expression:
    return where(x > 0, x, alpha * expm1(x / alpha))


CELU = celu
