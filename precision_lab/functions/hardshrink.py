"""Hard shrinkage. It jumps; at ±λ it is 0, with the gradient 0, as in torch 2.13. Only λ ≥ 0 makes sense."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="hardshrink",
    source="Donoho and Johnstone, Biometrika 81 (1994); PyTorch documentation, torch.nn.Hardshrink",
    formula="x (x > λ or x < −λ); 0 between",
    fixed=("lambd",),
    lambd=0.5,
    parameter_sets={"init": {"lambd": 0.5}, "narrow": {"lambd": 0.01}},
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def hardshrink(x: Expression, lambd: Expression) -> Expression:
    return where(x > lambd, x, where(x < -lambd, x, 0))
