"""The scaling recipes: what becomes of a tensor on its way into a low-precision matrix product.

Each is one frozen dataclass; a new one is written here and added to RECIPES. Rules and defaults are
Transformer Engine 2.20's (`common/recipe/__init__.py`), restated; elements are multiplied in FP32, then
cast to nearest even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError, WrongTypeError, unknown_name
from precision_lab.formats import get_format
from precision_lab.formats.cast_loops import round_trip_cpu
from precision_lab.formats.casts import e8m0_codes, e8m0_reciprocals, e8m0_values, fp8_codes
from precision_lab.lowprecision.recipes.nvfp4 import GROUP, hadamard, quantize_nvfp4
from precision_lab.lowprecision.recipes.quantized import Quantized, as_matrix, block_amax, per_element
from precision_lab.lowprecision.recipes.scales import AmaxHistory, amax, scale_from_amax
from precision_lab.registry import Registry

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
    """

    name: str
    description: str
    forward: str = "e4m3"
    gradient: str = "e5m2"
    saturating: bool = True
    capability: tuple[int, int] = (8, 9)
    fused: str = ""
    # Whether an element is stored alike wherever it stands: one scale for the tensor, or none.
    tensorwise: ClassVar[bool] = False

    def fmt(self, role: Role) -> str:
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
        return self._quantize(x.detach(), role, columnwise, state, unrounded_amax, generator)

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
        matrix = as_matrix(x.detach())
        scaling = self._scaling(matrix, role, columnwise, state, None)
        if scaling is None:
            return self.quantize(x, role, columnwise=columnwise, generator=generator).dequantize()
        matrix = matrix.float().contiguous()
        return round_trip_cpu(
            matrix, self.fmt(role), scaling.multiplier, scaling.decode, scaling.block
        ).reshape(x.shape)

    def _scaling(
        self,
        matrix: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
    ) -> Scaling | None:
        """The scales of an FP8 recipe; None where there is more to it than scales."""
        return None

    def _quantize(
        self,
        x: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
        generator: torch.Generator | None,
    ) -> Quantized:
        fmt, matrix = self.fmt(role), as_matrix(x)
        scaling = self._scaling(matrix, role, columnwise, state, unrounded_amax)
        assert scaling is not None
        block = scaling.block or (1, max(matrix.shape[1], 1))
        codes = torch.empty(matrix.shape, dtype=torch.uint8, device=x.device)
        rows, columns = matrix.shape
        piece = rows if matrix.is_cuda else max(_PIECE // max(columns, 1) // block[0], 1) * block[0]
        for start in range(0, rows, max(piece, 1)):
            part, scales = matrix[start : start + piece].float(), scaling.multiplier
            if scaling.block is not None:
                scales = scales[start // block[0] : -(-(start + piece) // block[0])]
                scales = per_element(scales, block, part.shape)
            codes[start : start + piece] = fp8_codes(part * scales, fmt, saturating=self.saturating)
        return Quantized(
            codes.reshape(x.shape), fmt, scaling.decode, scaling.block, scaling.amax, scaling.codes
        )


@dataclass(frozen=True)
class Unscaled(Recipe):
    """Operands as they are, in FP32, or rounded to BF16: what every other recipe is compared with."""

    tensorwise = True

    def store(self, x: Tensor) -> Tensor:
        """float32 values of x as stored."""
        return x.float() if self.forward == "fp32" else x.bfloat16().float()

    def _quantize(
        self,
        x: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
        generator: torch.Generator | None,
    ) -> Quantized:
        raise UsageError(f"recipe {self.name!r} stores numbers without a scale, not codes; use store(x)")


@dataclass(frozen=True)
class DelayedScaling(Recipe):
    """One scale per tensor, from the amaxes of earlier steps."""

    tensorwise = True
    history: int = 1024
    margin: int = 0
    most_recent: bool = False

    def state(self, role: Role) -> AmaxHistory:
        fmax = get_format(self.fmt(role)).max_finite
        return AmaxHistory(fmax, self.history, self.margin, self.most_recent)

    def _scaling(
        self,
        matrix: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
    ) -> Scaling:
        if state is None:
            raise UsageError(
                f"state=None: recipe {self.name!r} scales by earlier steps; pass recipe.state({role!r})"
            )
        fmax = get_format(self.fmt(role)).max_finite
        if state.fmax != fmax:
            raise UsageError(
                f"state.fmax={state.fmax!r}: role {role!r} is stored as {self.fmt(role)}, whose largest "
                f"number is {fmax!r}; pass recipe.state({role!r})"
            )
        a = amax(matrix) if unrounded_amax is None else unrounded_amax.float()
        state.collect(a)
        scale = state.scale.to(matrix.device)
        return Scaling(scale, 1.0 / scale, None, a)


@dataclass(frozen=True)
class CurrentScaling(Recipe):
    """One scale per tensor, from that tensor's own amax."""

    tensorwise = True
    power_of_two: bool = False
    eps: float = 0.0

    def _scaling(
        self,
        matrix: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
    ) -> Scaling:
        a = amax(matrix) if unrounded_amax is None else unrounded_amax.float()
        fmax = get_format(self.fmt(role)).max_finite
        scale = scale_from_amax(a, fmax, power_of_two=self.power_of_two, eps=self.eps)
        return Scaling(scale, 1.0 / scale, None, a)


@dataclass(frozen=True)
class BlockScaling(Recipe):
    """FP32 scales of 1×128 pieces of inputs and gradients and of 128×128 blocks of weights."""

    power_of_two: bool = True
    eps: float = 0.0

    def _scaling(
        self,
        matrix: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
    ) -> Scaling:
        block = _block(role, 128, columnwise)
        a = block_amax(matrix, block)
        scale = scale_from_amax(
            a, get_format(self.fmt(role)).max_finite, power_of_two=self.power_of_two,
            largest=float(torch.finfo(matrix.dtype).max), eps=self.eps,
        )  # fmt: skip
        return Scaling(scale, 1.0 / scale, block, amax(a))


@dataclass(frozen=True)
class MXFP8(Recipe):
    """Power-of-two scales of pieces of 32 elements, stored as E8M0."""

    def _scaling(
        self,
        matrix: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
    ) -> Scaling:
        block = (32, 1) if columnwise else (1, 32)
        a = block_amax(matrix, block)
        inverse = float(np.float32(1) / np.float32(get_format(self.fmt(role)).max_finite))
        codes = e8m0_codes(a * inverse)
        return Scaling(e8m0_reciprocals(codes), e8m0_values(codes), block, amax(a), codes)


@dataclass(frozen=True)
class NVFP4(Recipe):
    """E2M1 elements in pieces of 16 under E4M3 scales and one FP32 scale."""

    hadamard: bool = True
    stochastic: bool = True

    def _quantize(
        self,
        x: Tensor,
        role: Role,
        columnwise: bool,
        state: AmaxHistory | None,
        unrounded_amax: Tensor | None,
        generator: torch.Generator | None,
    ) -> Quantized:
        block = _block(role, GROUP, columnwise)
        stochastic = self.stochastic and role == "gradient"
        if not (self.hadamard and columnwise and role != "weight"):
            return quantize_nvfp4(
                x, block, unrounded_amax=unrounded_amax, generator=generator, stochastic=stochastic
            )
        # The transform mixes rows: the product over them is unchanged, for both operands are transformed.
        matrix = as_matrix(x).bfloat16()
        mixed = hadamard(matrix.t().contiguous())
        found = quantize_nvfp4(mixed, (1, GROUP), generator=generator, stochastic=stochastic)
        assert found.scale_codes is not None
        return Quantized(
            found.codes.t().reshape(x.shape), found.fmt, found.decode.t(), block, found.amax,
            found.scale_codes.t(),
        )  # fmt: skip


def _check(x: Tensor, role: Role) -> None:
    if role not in get_args(Role):
        raise unknown_name("role", role, get_args(Role))
    if x.ndim == 0:
        raise UsageError("x has no dimension: a recipe stores vectors or matrices")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise WrongTypeError(f"x.dtype={x.dtype}: a recipe stores float32, bfloat16 or float16")


def _block(role: Role, size: int, columnwise: bool) -> tuple[int, int]:
    if role == "weight":
        return (size, size)
    return (size, 1) if columnwise else (1, size)


RECIPES: Registry[Recipe] = Registry(
    "recipe",
    Recipe,
    (
        Unscaled("fp32", "FP32 throughout", "fp32", "fp32", capability=(0, 0), fused="fp32"),
        Unscaled("bf16", "operands rounded to BF16", "bf16", "bf16", capability=(8, 0), fused="bf16"),
        DelayedScaling(
            "delayed", "FP8, one scale per tensor from the amaxes of the last 1024 steps", fused="fp32"
        ),
        CurrentScaling("current", "FP8, one scale per tensor from its own amax", fused="bf16"),
        CurrentScaling(
            "current-pow2", "FP8, one power-of-two scale per tensor from its own amax", fused="bf16",
            power_of_two=True,
        ),
        BlockScaling(
            "block", "E4M3, power-of-two scales of 1×128 pieces, 128×128 for weights", gradient="e4m3",
            capability=(9, 0),
        ),
        BlockScaling(
            "block-fp32", "E4M3, FP32 scales of 1×128 pieces, 128×128 for weights", gradient="e4m3",
            capability=(9, 0), power_of_two=False,
        ),
        MXFP8(
            "mxfp8", "E4M3, E8M0 scales of 1×32 pieces", gradient="e4m3", capability=(10, 0),
            fused="bf16-amax",
        ),
        NVFP4(
            "nvfp4", "E2M1, E4M3 scales of 1×16 pieces, Hadamard transform, stochastic gradients", "e2m1",
            "e2m1", capability=(10, 0),
        ),
        NVFP4(
            "nvfp4-plain", "E2M1, E4M3 scales of 1×16 pieces, rounded to nearest", "e2m1", "e2m1",
            capability=(10, 0), fused="bf16", hadamard=False, stochastic=False,
        ),
    ),
)  # fmt: skip


def get_recipe(recipe: str | Recipe) -> Recipe:
    """The registered recipe of that name.

    Raises:
        ValueError: no such recipe; names the nearest ones.
    """
    return RECIPES.get(recipe)


__all__ = [
    "MXFP8", "NVFP4", "RECIPES", "BlockScaling", "CurrentScaling", "DelayedScaling", "Recipe",
    "Role", "Unscaled", "get_recipe",
]  # fmt: skip
