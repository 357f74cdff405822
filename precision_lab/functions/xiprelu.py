"""xIPReLU: as xIELU for x > 0, a second parabola for x ≤ 0."""

from __future__ import annotations

from precision_lab.formula.expression import X, symbol, where
from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.xielu import ALPHA_P, BETA, LAWS, PARAMETER_SETS, POSITIVE

ALPHA_N = Parameter("alpha_n", 0.8, positive=True, raw="softplus")
XIPRELU = Activation(
    name="xiprelu",
    title="xIPReLU",
    expression=where(X > 0, POSITIVE, symbol("alpha_n") * X**2 + symbol("beta") * X),
    formula="α_p·x² + β·x (x > 0); α_n·x² + β·x (x ≤ 0)",
    source="arXiv 2411.13010, section 3, equations 10-12",
    parameters=(ALPHA_P, ALPHA_N, BETA),
    laws=LAWS,
    parameter_sets=PARAMETER_SETS,
)
