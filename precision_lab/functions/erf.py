"""The error function."""

from __future__ import annotations

from precision_lab.formula import vocabulary as math
from precision_lab.formula.expression import Expression
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="erf",
    source="NIST DLMF, section 7.2",
    formula="2/√π·∫₀ˣ e^(−t²) dt",
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "0", "increasing"),
        Monotone("grad_x", "0", "inf", "decreasing"),
    ),
)
def erf(x: Expression) -> Expression:
    return math.erf(x)
