"""Soft capping of logits to ±c."""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import tanh
from precision_lab.functions.base import Monotone
from precision_lab.functions.from_formula import activation


@activation(
    title="softcap",
    source="Bello et al., arXiv 1611.09940, appendix; Gemma 2, arXiv 2408.00118, section 2",
    formula="c·tanh(x/c)",
    fixed=("cap",),
    positive=("cap",),
    cap=50.0,
    laws=(Monotone("forward", "-inf", "inf", "increasing"),),
    parameter_sets={"init": {"cap": 50.0}, "final": {"cap": 30.0}},
)
def softcap(x: Expression, cap: Expression) -> Expression:
    return cap * tanh(x / cap)
