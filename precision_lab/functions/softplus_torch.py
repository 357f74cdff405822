"""Softplus as torch has it, with β and a threshold beyond which it is x.

It is a function of its own: `softplus` has no threshold, and keeps its exact values. At x = threshold/β this
one jumps by log(1 + e^(−threshold))/β, 2.1e-9 for the defaults, and its gradient by σ(−threshold): as torch
defines it, so that neither is an error. At the threshold itself it is the logarithm, as in torch 2.13.
"""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.formula.vocabulary import softplus
from precision_lab.functions.from_formula import activation


@activation(
    title="softplus (torch)",
    source="PyTorch documentation, torch.nn.Softplus",
    formula="log(1 + e^(β·x))/β (β·x ≤ t); x (β·x > t)",
    fixed=("beta", "threshold"),
    positive=("beta",),
    beta=1.0,
    threshold=20.0,
    parameter_sets={
        "init": {"beta": 1.0, "threshold": 20.0},
        "steep": {"beta": 8.0, "threshold": 20.0},
        "early": {"beta": 1.0, "threshold": 4.0},
    },
)
def softplus_torch(x: Expression, beta: Expression, threshold: Expression) -> Expression:
    return where(beta * x > threshold, x, softplus(beta * x) / beta)
