"""Snake. Its gradients have no limit at ±∞: they are NaN there, as sin ∞ is in IEEE 754."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import sin
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation

# Neither at −∞ nor at ∞.
NO_LIMIT = (float("nan"), float("nan"))


@activation(
    title="Snake",
    source="Ziyin et al., arXiv 2006.08195, equation 3",
    formula="x + sin²(α·x)/α",
    raw={"alpha": "identity"},
    positive=("alpha",),
    limits=dict.fromkeys(("grad_x", "grad_alpha", "grad_raw_alpha", "grad_grad_x"), NO_LIMIT),
    alpha=1.0,
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
    parameter_sets={"init": {"alpha": 1.0}, "fast": {"alpha": 10.0}},
)
def snake(x: Expression, alpha: Expression) -> Expression:
    return x + sin(alpha * x) ** 2 / alpha
