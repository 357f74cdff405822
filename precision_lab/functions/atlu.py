"""ATLU: the arctan linear unit."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Monotone
from precision_lab.functions.terms import UNIT, Term

ATLU = Activation(
    name="atlu",
    title="ATLU",
    formula="x·(arctan(x)/π + ½)",
    source="Huang, Expanded Gating Ranges, arXiv 2405.20768",
    negative=(Term(UNIT, "atlu"),),
    positive=(Term(UNIT, "atlu"),),
    parameters=(),
    continuous=("forward", "grad_x"),
    laws=(
        Monotone("forward", "-inf", "inf", "increasing"),
        Monotone("grad_x", "-1", "1", "increasing"),
    ),
)
