"""One over the square root. At both zeros it goes to ∞: there are no values on the other side.

torch 2.13 has −∞ at −0, as rSqrt of IEEE 754, and ∞ for the gradient there: each counts as a wrong infinity.
"""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.from_formula import activation


@activation(
    title="rsqrt",
    source="IEEE 754-2019, section 9.2, rSqrt; PyTorch documentation, torch.rsqrt",
    formula="1/√x",
    domain="x > 0",
)
def rsqrt(x: Expression) -> Expression:
    return math.rsqrt(x)
