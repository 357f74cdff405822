"""The exponential less 1, which keeps its digits next to 0."""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="expm1",
    source="NIST DLMF, section 4.2; PyTorch documentation, torch.special.expm1",
    formula="eˣ − 1",
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
def expm1(x: Expression) -> Expression:
    return math.expm1(x)
