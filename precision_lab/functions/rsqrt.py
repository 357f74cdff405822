"""One over the square root. At 0 it goes to ∞; torch gives −∞ at −0, as IEEE 754 has it."""

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
