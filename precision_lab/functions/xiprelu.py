"""xIPReLU: as xIELU for x > 0, a second parabola for x ≤ 0."""

from __future__ import annotations

from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.terms import Term, theta
from precision_lab.functions.xielu import ALPHA_P, BETA, CONTINUOUS, LAWS, PARAMETER_SETS, POSITIVE

ALPHA_N = Parameter("alpha_n", 0.8, positive=True, raw="softplus")
NEGATIVE = (Term(theta("alpha_n"), "x^2"), Term(theta("beta"), "x"))

XIPRELU = Activation(
    name="xiprelu",
    title="xIPReLU",
    formula="α_p·x² + β·x (x > 0); α_n·x² + β·x (x ≤ 0)",
    source="arXiv 2411.13010, section 3, equations 10-12",
    negative=NEGATIVE,
    positive=POSITIVE,
    parameters=(ALPHA_P, ALPHA_N, BETA),
    continuous=CONTINUOUS,
    laws=LAWS,
    parameter_sets=PARAMETER_SETS,
)
