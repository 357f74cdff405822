"""xIELU: the integral of a gradient that is linear for x > 0 and ELU-like for x ≤ 0."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.base import Activation, Monotone, Parameter

# α_p ~ 170 is reported for the first layers of a large trained model, both α near
# their lower limits for deep ones; α_n ≤ β has no root and no raw value.
PARAMETER_SETS = {
    "init": {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5},
    "nearly-linear": {"alpha_p": 0.05, "alpha_n": 0.55, "beta": 0.5},
    "first-layer": {"alpha_p": 170.0, "alpha_n": 1.2, "beta": 0.5},
    "rootless": {"alpha_p": 0.8, "alpha_n": 0.4, "beta": 0.5},
}

ALPHA_P = Parameter("alpha_p", 0.8, positive=True, raw="softplus")
ALPHA_N = Parameter("alpha_n", 0.8, positive=True, raw="softplus+beta")
BETA = Parameter("beta", 0.5)

POSITIVE = symbol("alpha_p") * X**2 + symbol("beta") * X
NEGATIVE = symbol("alpha_n") * (expm1(X) - X) + symbol("beta") * X

# What a quadratic positive part and a gradient that grows from −∞ to ∞ have in common.
LAWS = (
    Monotone("grad_x", "-inf", "inf", "increasing"),
    Monotone("grad_alpha_n", "-inf", "0", "decreasing"),
    Monotone("grad_alpha_p", "0", "inf", "increasing"),
    Monotone("forward", "root_gradient", "inf", "increasing"),
)

XIELU = Activation(
    name="xielu",
    title="xIELU",
    expression=where(X > 0, POSITIVE, NEGATIVE),
    formula="α_p·x² + β·x (x > 0); α_n·(eˣ − 1 − x) + β·x (x ≤ 0)",
    source="arXiv 2411.13010, section 3, equations 6-9",
    parameters=(ALPHA_P, ALPHA_N, BETA),
    laws=LAWS,
    parameter_sets=PARAMETER_SETS,
)
