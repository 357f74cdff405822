"""The exponential with base 2."""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="exp2",
    source="NIST DLMF, section 4.2; PyTorch documentation, torch.special.exp2",
    formula="2ˣ",
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
def exp2(x: Expression) -> Expression:
    return math.exp2(x)
