"""SiLU, also called swish."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

SILU = Activation(
    name="silu",
    title="SiLU",
    formula="x·σ(x)",
    source="Elfwing et al., arXiv 1702.03118",
    negative=(Term(UNIT, "silu"),),
    positive=(Term(UNIT, "silu"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(Monotone("forward", "root_gradient", "inf", "increasing"),),
)
