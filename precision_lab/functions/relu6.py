"""ReLU up to 6. At both breakpoints the gradient is 0, as in torch 2.13."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="ReLU6",
    source="Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010; torch.nn.ReLU6",
    formula="min(max(x, 0), 6)",
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
)
def relu6(x: Expression) -> Expression:
    return where(x <= 0, 0, where(x >= 6, 6, x))
