"""Soft shrinkage. At ±λ the gradient is 0, as in torch 2.13. Only λ ≥ 0 makes sense."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="softshrink",
    source="Donoho, IEEE Transactions on Information Theory 41 (1995); torch.nn.Softshrink",
    formula="x − λ (x > λ); x + λ (x < −λ); 0 between",
    fixed=("lambd",),
    lambd=0.5,
    parameter_sets={"init": {"lambd": 0.5}, "narrow": {"lambd": 0.01}},
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def softshrink(x: Expression, lambd: Expression) -> Expression:
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, 0))
