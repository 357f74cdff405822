"""ATLU: the arctan linear unit."""

from __future__ import annotations

from fractions import Fraction

from precision_lab.formula.expression import X
from precision_lab.formula.vocabulary import atan, pi
from precision_lab.functions.base import Activation, Monotone

ATLU = Activation(
    name="atlu",
    title="ATLU",
    expression=X * (atan(X) / pi + Fraction(1, 2)),
    formula="x·(arctan(x)/π + ½)",
    source="Huang, Expanded Gating Ranges, arXiv 2405.20768",
    parameters=(),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-1", "1", "increasing"),
    ),
)
