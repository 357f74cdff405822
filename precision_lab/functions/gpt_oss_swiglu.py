"""SwiGLU as gpt-oss has it: the gate clamped from above, the linear part from both sides and moved by 1.

At a limit the gradient is that inside, as of torch's clamp.
"""

from __future__ import annotations

from precision_lab.formula.expression import Expression
from precision_lab.formula.vocabulary import clamp, minimum, sigmoid
from precision_lab.functions.from_formula import activation


@activation(
    title="SwiGLU (gpt-oss)",
    source="OpenAI, gpt-oss-120b and gpt-oss-20b, arXiv 2508.10925, and its model code",
    formula="g·σ(α·g)·(clamp(b, −l, l) + 1) with g = min(x, l)",
    operands=("b",),
    fixed=("alpha", "limit"),
    positive=("limit",),
    alpha=1.702,
    limit=7.0,
)
def gpt_oss_swiglu(x: Expression, b: Expression, alpha: Expression, limit: Expression) -> Expression:
    gate = minimum(x, limit)
    return gate * sigmoid(alpha * gate) * (clamp(b, -limit, limit) + 1)
