"""Tanhshrink: what the hyperbolic tangent takes away from x, x³/3 next to 0."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import tanh
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="tanhshrink",
    source="PyTorch documentation, torch.nn.Tanhshrink",
    formula="x − tanh(x)",
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def tanhshrink(x: Expression) -> Expression:
    return x - tanh(x)
