"""The logarithm of 1 + x. There is none below −1, and a pole there: −∞, with the gradient ∞.

torch 2.13 computes the gradient as 1/(1 + x) below −1 as well, where the function has no value.
"""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.from_formula import activation


@activation(
    title="log1p",
    source="NIST DLMF, section 4.2; PyTorch documentation, torch.special.log1p",
    formula="log(1 + x)",
    domain="x > −1",
)
def log1p(x: Expression) -> Expression:
    return math.log1p(x)
