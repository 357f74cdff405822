"""Softsign."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="softsign",
    source="Turian et al., NAACL 2009; PyTorch documentation, torch.nn.Softsign",
    formula="x/(1 + |x|)",
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
def softsign(x: Expression) -> Expression:
    return x / (1 + abs(x))
