"""The exponential."""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="exp",
    source="NIST DLMF, section 4.2",
    formula="eˣ",
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
def exp(x: Expression) -> Expression:
    return math.exp(x)
