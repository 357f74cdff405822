"""Snake, which has a period. It has no limit of its gradient at ±∞."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import sin
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="Snake",
    source="Ziyin et al., arXiv 2006.08195, equation 3",
    formula="x + sin²(α·x)/α",
    raw={"alpha": "identity"},
    positive=("alpha",),
    alpha=1.0,
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
    parameter_sets={"init": {"alpha": 1.0}, "fast": {"alpha": 10.0}},
)
def snake(x: Expression, alpha: Expression) -> Expression:
    return x + sin(alpha * x) ** 2 / alpha
