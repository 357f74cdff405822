"""Hard swish. At both breakpoints the gradient is that of the outer branch, 0 and 1.

So it is in torch 2.13: its backward tests x <= -3 and x >= 3.
"""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.functions.from_formula import activation


@activation(
    title="hard swish",
    source="Howard et al., MobileNetV3, arXiv 1905.02244, section 5.2; torch.nn.Hardswish",
    formula="0 (x ≤ −3); x (x ≥ 3); x·(x + 3)/6 between",
)
def hardswish(x: Expression) -> Expression:
    return where(x <= -3, 0, where(x >= 3, x, x * (x + 3) / 6))
