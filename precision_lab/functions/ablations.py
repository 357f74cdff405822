"""Variants of xIELU and xIPReLU from the ablation study (arXiv 2411.13010, table 4)."""

from __future__ import annotations

from dataclasses import replace

from precision_lab.formula.expression import X, symbol, where
from precision_lab.functions.base import Activation, Monotone, Parameter
from precision_lab.functions.silu import SILU
from precision_lab.functions.xielu import ALPHA_N, ALPHA_P, BETA, NEGATIVE, POSITIVE, XIELU
from precision_lab.functions.xiprelu import XIPRELU

SOURCE = "arXiv 2411.13010, table 4"

XIELU_CUBIC = Activation(
    name="xielu_cubic",
    title="xIELU, cubic positive part",
    formula="α_p·x³ + β·x (x > 0); α_n·(eˣ − 1 − x) + β·x (x ≤ 0)",
    source=SOURCE,
    expression=where(X > 0, symbol("alpha_p") * X**3 + symbol("beta") * X, NEGATIVE),
    parameters=(ALPHA_P, ALPHA_N, BETA),
    laws=(Monotone("grad_x", "-inf", "inf", "increasing"),),
)

XIELU_NEG_XSILU = Activation(
    name="xielu_neg_xsilu",
    title="xIELU, xSiLU negative part",
    formula="α_p·x² + β·x (x > 0); (1 + 2α_n)·x·σ(x) − α_n·x (x ≤ 0)",
    source=SOURCE,
    expression=where(X > 0, POSITIVE, (1 + 2 * symbol("alpha_n")) * SILU.expression - symbol("alpha_n") * X),
    parameters=(ALPHA_P, Parameter("alpha_n", 0.8, positive=True, raw="softplus"), BETA),
)

XIELU_NEG_SILU = Activation(
    name="xielu_neg_silu",
    title="xIELU, SiLU negative part",
    formula="α_p·x² + β·x (x > 0); x·σ(x) (x ≤ 0)",
    source=SOURCE,
    expression=where(X > 0, POSITIVE, SILU.expression),
    parameters=(ALPHA_P, BETA),
)

XIELU_NEG_ZERO = Activation(
    name="xielu_neg_zero",
    title="xIELU, zero negative part",
    formula="α_p·x² + β·x (x > 0); 0 (x ≤ 0)",
    source=SOURCE,
    expression=where(X > 0, POSITIVE, 0),
    parameters=(ALPHA_P, BETA),
    laws=(Monotone("grad_alpha_p", "0", "inf", "increasing"),),
)

XIELU_TRAINABLE_BETA = replace(
    XIELU,
    name="xielu_trainable_beta",
    title="xIELU, trainable β",
    source=SOURCE,
    parameters=(ALPHA_P, ALPHA_N, replace(BETA, raw="identity")),
)

_FIXED = tuple(replace(parameter, trainable=False, raw=None) for parameter in (ALPHA_P, ALPHA_N, BETA))
_FIXED_LAWS = (Monotone("grad_x", "-inf", "inf", "increasing"),)

XIELU_FIXED_ALPHA = replace(
    XIELU,
    name="xielu_fixed_alpha",
    title="xIELU, fixed α",
    source=SOURCE,
    parameters=_FIXED,
    laws=_FIXED_LAWS,
)

XIPRELU_FIXED_ALPHA = replace(
    XIPRELU,
    name="xiprelu_fixed_alpha",
    title="xIPReLU, fixed α",
    source=SOURCE,
    parameters=_FIXED,
    laws=_FIXED_LAWS,
)
