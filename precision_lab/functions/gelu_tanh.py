"""The tanh form of GELU, a function of its own."""

from __future__ import annotations

from fractions import Fraction

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import pi, sqrt, tanh
from precision_lab.functions.base import Activation, Monotone

GELU_TANH = Activation(
    name="gelu_tanh",
    title="GELU (tanh)",
    expression=X * (1 + tanh(sqrt(2 / pi) * (X + Fraction(44715, 10**6) * X**3))) / 2,
    formula="½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))",
    source="Hendrycks and Gimpel, arXiv 1606.08415, section 2",
    parameters=(),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
