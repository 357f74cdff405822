"""A user's formula as torch computes it, operation by operation as it is written: what people type first.

It shares nothing with the oracle but the formula: torch's operators are what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.formula.expression import Comparison, Expression, children
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.family import Formulation, executions

NAME = "as-written"


@lru_cache(maxsize=64)
def as_written(function: Activation) -> tuple[Implementation, ...]:
    """The formula in torch's operators: eager, with FP32 arithmetic, compiled, and with FP8 storage."""
    formulation = Formulation(
        NAME, function, _Composed(function.expression), "the formula, operation by operation in torch"
    )
    return tuple(i for i in executions([formulation], fp8=True) if not i.inductor)


class _Composed:
    """A kernel; its parts are looked up by the expression's own objects."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __call__(self, x: Tensor, **parameters: Tensor) -> Tensor:
        given: dict[str, Any] = {"x": x, **parameters}
        memo: dict[Expression, Any] = {}

        def go(e: Expression) -> Any:
            if e not in memo:
                memo[e] = _applied(e, given, x, go)
            return memo[e]

        found = go(self.expression)
        return found if isinstance(found, Tensor) and found.shape == x.shape else torch.zeros_like(x) + found


def _applied(e: Expression, given: dict[str, Any], x: Tensor, go: Callable[[Expression], Any]) -> Any:
    if e.kind == "number":
        value = e.args[0]
        return int(value) if value.denominator == 1 and abs(value) < 2**31 else float(value)
    if e.kind == "pi":
        return math.pi
    if e.kind == "symbol":
        return given[e.args[0]]
    if e.kind == "where":
        condition, a, b = e.args
        return _where(_truth(condition, go), go(a), go(b), x)
    parts = [go(p) for p in children(e)]
    if e.kind in _OPERATORS:
        return _OPERATORS[e.kind](*parts)
    if not isinstance(parts[0], Tensor):
        parts = [torch.tensor(float(parts[0]), dtype=x.dtype, device=x.device)]
    return _FUNCTIONS.get(e.kind, getattr(torch, e.kind, None))(*parts)  # type: ignore[misc]


def _truth(condition: Comparison, go: Callable[[Expression], Any]) -> Any:
    left, right = go(condition.left), go(condition.right)
    return left < right if condition.strict else left <= right


def _where(truth: Any, a: Any, b: Any, x: Tensor) -> Any:
    if not isinstance(truth, Tensor):
        return a if truth else b
    a, b = (v if isinstance(v, Tensor) else torch.full((), v, dtype=x.dtype, device=x.device) for v in (a, b))
    return torch.where(truth, a, b)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "power": lambda a, b: a**b,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"softplus": F.softplus}


__all__ = ["NAME", "as_written"]
