"""Swish with its β; SiLU for β = 1."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import sigmoid
from precision_lab.functions.from_formula import activation


@activation(
    title="swish",
    source="Ramachandran et al., arXiv 1710.05941, section 5",
    formula="x·σ(β·x)",
    raw={"beta": "identity"},
    beta=1.0,
    parameter_sets={"init": {"beta": 1.0}, "nearly-linear": {"beta": 0.05}, "steep": {"beta": 8.0}},
)
def swish(x: Expression, beta: Expression) -> Expression:
    return x * sigmoid(beta * x)
