"""Leaky ReLU. At 0 the gradient is the slope of the negative side, as in torch 2.13."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.from_formula import activation


@activation(
    title="leaky ReLU",
    source="Maas et al., ICML 2013; PyTorch documentation, torch.nn.LeakyReLU",
    formula="x (x > 0); s·x (x ≤ 0)",
    fixed=("slope",),
    slope=0.01,
    parameter_sets={"init": {"slope": 0.01}, "steep": {"slope": 0.2}},
)
def leaky_relu(x: Expression, slope: Expression) -> Expression:
    return where(x > 0, x, slope * x)
