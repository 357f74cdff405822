"""The logarithm of the logistic sigmoid."""

from __future__ import annotations

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import softplus
from precision_lab.functions.base import Activation, Monotone

LOGSIGMOID = Activation(
    name="logsigmoid",
    title="log-sigmoid",
    expression=-softplus(-X),
    formula="−log(1 + e^(−x))",
    source="PyTorch documentation, torch.nn.LogSigmoid",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "decreasing"),
    ),
)
