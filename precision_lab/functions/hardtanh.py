"""Hard tanh. At both breakpoints the gradient is 0, as in torch 2.13, whose clamp has 1 there."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="hard tanh",
    source="Collobert, PhD thesis, 2004; PyTorch documentation, torch.nn.Hardtanh",
    formula="−1 (x ≤ −1); 1 (x ≥ 1); x between",
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def hardtanh(x: Expression) -> Expression:
    return where(x <= -1, -1, where(x >= 1, 1, x))
