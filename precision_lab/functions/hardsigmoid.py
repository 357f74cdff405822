"""Hard sigmoid. At both breakpoints the gradient is 0, as in torch 2.13."""

from __future__ import annotations

from fractions import Fraction

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="hard sigmoid",
    source="Courbariaux et al., arXiv 1511.00363, equation 3, with torch's slope; torch.nn.Hardsigmoid",
    formula="0 (x ≤ −3); 1 (x ≥ 3); x/6 + ½ between",
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def hardsigmoid(x: Expression) -> Expression:
    return where(x <= -3, 0, where(x >= 3, 1, x / 6 + Fraction(1, 2)))
