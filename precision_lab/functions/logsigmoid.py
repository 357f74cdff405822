"""The logarithm of the logistic sigmoid."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

LOGSIGMOID = Activation(
    name="logsigmoid",
    title="log-sigmoid",
    formula="−log(1 + e^(−x))",
    source="PyTorch documentation, torch.nn.LogSigmoid",
    negative=(Term(UNIT, "logsigmoid"),),
    positive=(Term(UNIT, "logsigmoid"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "decreasing"),
    ),
)
