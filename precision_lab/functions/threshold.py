"""Threshold. It jumps; at the threshold itself it is the value, with the gradient 0, as in torch 2.13.

The defaults are those of the example in torch's documentation, which has none.
"""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.from_formula import activation


@activation(
    title="threshold",
    source="PyTorch documentation, torch.nn.Threshold",
    formula="x (x > t); v (x ≤ t)",
    fixed=("threshold", "value"),
    threshold=0.1,
    value=20.0,
    parameter_sets={"init": {"threshold": 0.1, "value": 20.0}, "zero": {"threshold": 0.5, "value": 0.0}},
)
def threshold(x: Expression, threshold: Expression, value: Expression) -> Expression:
    return where(x > threshold, x, value)
