"""StarReLU: squared ReLU, scaled and moved."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.from_formula import activation


@activation(
    title="StarReLU",
    source="Yu et al., arXiv 2210.13452, equation 5",
    formula="s·max(x, 0)² + b",
    raw={"scale": "identity", "bias": "identity"},
    scale=0.8944,
    bias=-0.4472,
)
def star_relu(x: Expression, scale: Expression, bias: Expression) -> Expression:
    return where(x > 0, scale * x**2, 0) + bias
