"""A matrix product whose operands pass through a recipe, as in Transformer Engine's Linear.

Operands are stored by the recipe, scaled back and multiplied in FP32; results are rounded to BF16, as a
product on tensor cores is written out. y = x·wᵀ uses both operands row-wise; dx = dy·w uses the gradient
row-wise and the weight column-wise; dw = dyᵀ·x uses both column-wise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from precision_lab.lowprecision.recipes.base import Recipe, Role
from precision_lab.lowprecision.recipes.quantized import BEYOND, as_matrix
from precision_lab.lowprecision.recipes.recipes import Unscaled, get_recipe
from precision_lab.lowprecision.recipes.scales import AmaxHistory


class Operands:
    """What one product remembers between steps: a history for each operand, where the recipe keeps one."""

    def __init__(self, recipe: str | Recipe, generator: torch.Generator | None = None) -> None:
        self.recipe = get_recipe(recipe)
        self.generator = generator
        self.states: dict[Role, AmaxHistory | None] = {
            role: self.recipe.state(role) for role in ("input", "weight", "gradient")
        }
        self.watch = False
        self.clipped: dict[Role, float] = {}  # share beyond the format's range, where watched

    def pair(self, x: Tensor, role: Role) -> tuple[Tensor, Tensor]:
        """float32 values of a matrix as stored row-wise and column-wise."""
        if isinstance(self.recipe, Unscaled):
            kept = self.recipe.store(x)
            return kept, kept
        state = self.states[role]
        if self.watch and state is not None:
            beyond = BEYOND[self.recipe.fmt(role)] / state.scale.double().to(x.device)
            self.clipped[role] = float((x.double().abs() > beyond).float().mean())
        row = self.recipe.round_trip(x, role, state=state, generator=self.generator)
        if self.recipe.tensorwise:
            return row, row  # one scale per tensor: the transpose holds the same codes
        return row, self.recipe.round_trip(x, role, columnwise=True, generator=self.generator)

    def step(self) -> None:
        """Ends a step of the histories."""
        for state in self.states.values():
            if state is not None:
                state.step()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, operands: Operands) -> Tensor:
        matrix = as_matrix(x)
        row_x, column_x = operands.pair(matrix, "input")
        row_w, column_w = operands.pair(w, "weight")
        ctx.save_for_backward(column_x, column_w)
        ctx.operands, ctx.dtypes = operands, (x.dtype, w.dtype)
        y = row_x @ row_w.t()
        return y.to(x.dtype).reshape(*x.shape[:-1], w.shape[0])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        column_x, column_w = ctx.saved_tensors
        row_dy, column_dy = ctx.operands.pair(as_matrix(dy), "gradient")
        dx = (row_dy @ column_w).to(ctx.dtypes[0]).reshape(*dy.shape[:-1], column_w.shape[1])
        return dx, (column_dy.t() @ column_x).to(ctx.dtypes[1]), None


def product(x: Tensor, w: Tensor, operands: Operands) -> Tensor:
    """x·wᵀ with both operands, and the gradient that comes back, stored by the operands' recipe.

    Args:
        x: shape (…, n).
        w: shape (m, n).

    Returns:
        the dtype of x, shape (…, m).
    """
    result: Tensor = _Product.apply(x, w, operands)  # type: ignore[no-untyped-call]
    return result


class EmulatedLinear(nn.Module):
    """A linear layer without bias whose products go through a recipe; its weight is kept in FP32.

    Args:
        recipe: a recipe, or its name; "bf16" rounds operands to BF16.
        generator: random bits for a recipe that rounds stochastically.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        recipe: str | Recipe,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.operands = Operands(recipe, generator)

    def forward(self, x: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
        """x·wᵀ, shape (…, rows).

        Args:
            x: shape (…, columns).
            rows, columns: factors of the weight's rows and columns.
        """
        weight: Tensor = self.weight
        if rows is not None:
            weight = weight * rows[:, None]
        if columns is not None:
            weight = weight * columns
        return product(x, weight, self.operands)


__all__ = ["EmulatedLinear", "Operands", "product"]
