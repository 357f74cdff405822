"""Quick GELU: GELU with the logistic sigmoid in place of Φ. The factor is 1.702, not its float64 number."""

from __future__ import annotations

from fractions import Fraction

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import sigmoid
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="quick GELU",
    source="Hendrycks and Gimpel, arXiv 1606.08415, section 2",
    formula="x·σ(1.702·x)",
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
def quick_gelu(x: Expression) -> Expression:
    return x * sigmoid(Fraction(1702, 1000) * x)
