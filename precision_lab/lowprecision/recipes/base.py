"""What a scaling recipe is, and what it is given: one tensor on its way into a matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import E4M3, E5M2, FloatFormat
from precision_lab.formats.cast_loops import round_trip_cpu
from precision_lab.formats.casts import fp8_codes
from precision_lab.lowprecision.recipes.quantized import Quantized, as_matrix, per_element
from precision_lab.lowprecision.recipes.scales import AmaxHistory, amax

Role = Literal["input", "weight", "gradient"]
# Elements worked on at a time: what lies between two passes stays in the cache of a core.
_PIECE = 1 << 17


@dataclass(frozen=True)
class Scaling:
    """What a tensor's elements are multiplied by before and after the cast to FP8.

    Attributes:
        multiplier, decode: float32, 0-d for one scale per tensor, else shape (row blocks, column blocks).
        block: rows and columns of a block; None for one scale per tensor.
        amax: float32, 0-d; the largest magnitude of the tensor.
        codes: the scales as stored where that is not float32.
    """

    multiplier: Tensor
    decode: Tensor
    block: tuple[int, int] | None
    amax: Tensor
    codes: Tensor | None = None


@dataclass(frozen=True)
class Given:
    """A tensor that a recipe is to store, with what `Recipe.quantize` was told of it."""

    x: Tensor
    role: Role
    columnwise: bool = False
    state: AmaxHistory | None = None
    unrounded_amax: Tensor | None = None
    generator: torch.Generator | None = None

    @cached_property
    def matrix(self) -> Tensor:
        """x, shape (rows, last dimension)."""
        return as_matrix(self.x)

    @property
    def largest(self) -> Tensor:
        """The amax that counts: of the tensor before it was rounded, where that is known."""
        return amax(self.matrix) if self.unrounded_amax is None else self.unrounded_amax.float()

    def block(self, size: int) -> tuple[int, int]:
        """Rows and columns that share a scale: square for a weight, else along the product's sum."""
        if self.role == "weight":
            return (size, size)
        return (size, 1) if self.columnwise else (1, size)


@dataclass(frozen=True)
class Recipe:
    """A way to store the operands of a matrix product.

    Attributes:
        name: the project's name of it.
        description: one line for people.
        forward: format of inputs and weights.
        gradient: format of gradients.
        saturating: overflow gives the largest finite number, as Transformer Engine casts.
        capability: compute capability from which a GPU has it in hardware.
        fused: an activation is stored by this recipe in the kernel that computes it: "fp32" without a
            step to BF16 between, "bf16" with one but the amax of the FP32 values, "bf16-amax" with one
            before the amax too; "" where the kernels stay two.
        hardware: the same for people, with what else it asks for.
        constructor: Transformer Engine's class with its arguments; "" where it has none.
        environment: the variable that has to be "1" when Transformer Engine is imported; "" for none.
    """

    name: str
    description: str
    forward: FloatFormat = E4M3
    gradient: FloatFormat = E5M2
    saturating: bool = True
    capability: tuple[int, int] = (8, 9)
    fused: str = ""
    hardware: str = ""
    constructor: str = ""
    environment: str = ""
    # Whether an element is stored alike wherever it stands: one scale for the tensor, or none.
    tensorwise: ClassVar[bool] = False

    @property
    def stochastic_gradients(self) -> bool:
        """Whether gradients are rounded stochastically, so that their errors average to zero."""
        return False

    def fmt(self, role: Role) -> FloatFormat:
        """The format of a role's elements."""
        return self.gradient if role == "gradient" else self.forward

    def state(self, role: Role) -> AmaxHistory | None:
        """What the recipe remembers of a tensor between steps; None where it remembers nothing."""
        return None

    def quantize(
        self,
        x: Tensor,
        role: Role = "input",
        *,
        columnwise: bool = False,
        state: AmaxHistory | None = None,
        unrounded_amax: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """A tensor as this recipe stores it.

        Args:
            x: float32, bfloat16 or float16, shape (…, n), at least one dimension.
            role: what the tensor is to the layer.
            columnwise: blocks lie along the rows' index, as the transposed product wants them; codes
                keep the shape of x. The last dimension stays last, all others count as rows.
            state: the tensor's history, which this call's amax is noted in; delayed scaling needs it.
            unrounded_amax: the amax before x was rounded to its dtype, where a fused kernel has that.
            generator: random bits, where the recipe rounds stochastically.

        Raises:
            ValueError: no such role; x without a dimension; what the recipe needs is missing.
            TypeError: x is not of these dtypes.
        """
        _check(x, role)
        if state is not None and self.state(role) is None:
            raise UsageError(f"state={state!r}: recipe {self.name!r} keeps no history")
        return self._quantize(Given(x.detach(), role, columnwise, state, unrounded_amax, generator))

    def round_trip(
        self,
        x: Tensor,
        role: Role = "input",
        *,
        columnwise: bool = False,
        state: AmaxHistory | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`quantize(…).dequantize()`, the same bits; on a CPU several times as fast.

        Raises:
            ValueError, TypeError: as `quantize`.
        """
        _check(x, role)
        if x.device.type != "cpu" or not self.saturating:
            return self.quantize(
                x, role, columnwise=columnwise, state=state, generator=generator
            ).dequantize()
        given = Given(x.detach(), role, columnwise, state, generator=generator)
        scaling = self._scaling(given)
        if scaling is None:
            return self._quantize(given).dequantize()
        matrix = given.matrix.float().contiguous()
        return round_trip_cpu(
            matrix, self.fmt(role), scaling.multiplier, scaling.decode, scaling.block
        ).reshape(x.shape)

    def _scaling(self, given: Given) -> Scaling | None:
        """The scales of an FP8 recipe; None where there is more to it than scales."""
        return None

    def _quantize(self, given: Given) -> Quantized:
        fmt, matrix = self.fmt(given.role), given.matrix
        scaling = self._scaling(given)
        assert scaling is not None
        block = scaling.block or (1, max(matrix.shape[1], 1))
        codes = torch.empty(matrix.shape, dtype=torch.uint8, device=matrix.device)
        rows, columns = matrix.shape
        piece = rows if matrix.is_cuda else max(_PIECE // max(columns, 1) // block[0], 1) * block[0]
        for start in range(0, rows, max(piece, 1)):
            part, scales = matrix[start : start + piece].float(), scaling.multiplier
            if scaling.block is not None:
                scales = scales[start // block[0] : -(-(start + piece) // block[0])]
                scales = per_element(scales, block, part.shape)
            codes[start : start + piece] = fp8_codes(part * scales, fmt, saturating=self.saturating)
        return Quantized(
            codes.reshape(given.x.shape), fmt, scaling.decode, scaling.block, scaling.amax, scaling.codes
        )


def _check(x: Tensor, role: Role) -> None:
    if role not in get_args(Role):
        raise unknown_name("role", role, get_args(Role))
    if x.ndim == 0:
        raise UsageError("x has no dimension: a recipe stores vectors or matrices")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"x.dtype={x.dtype}: a recipe stores float32, bfloat16 or float16")


__all__ = ["Given", "Recipe", "Role", "Scaling"]
