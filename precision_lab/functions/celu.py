"""CELU for α = 1, torch's default, where it is ELU with α = 1.

There is no α: of α·(e^(x/α) − 1) only the factor before the bracket is affine in α, and coefficients
have to be.
"""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

CELU = Activation(
    name="celu",
    title="CELU (α = 1)",
    formula="x (x > 0); eˣ − 1 (x ≤ 0)",
    source="Barron, arXiv 1704.07483, for α = 1",
    negative=(Term(UNIT, "expm1"),),
    positive=(Term(UNIT, "x"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-inf", "inf", "increasing"),
    ),
)
