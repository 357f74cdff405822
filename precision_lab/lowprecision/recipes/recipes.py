"""The scaling recipes: what becomes of a tensor on its way into a low-precision matrix product.

Each is one frozen dataclass; a new one is written here and added to RECIPES. Rules and defaults are
Transformer Engine 2.20's (`common/recipe/__init__.py`), restated; elements are multiplied in FP32, then
cast to nearest even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16, E2M1, E4M3, FP32
from precision_lab.formats.casts import e8m0_codes, e8m0_reciprocals, e8m0_values
from precision_lab.lowprecision.recipes.base import Given, Recipe, Role, Scaling
from precision_lab.lowprecision.recipes.nvfp4 import GROUP, hadamard, quantize_nvfp4
from precision_lab.lowprecision.recipes.quantized import Quantized, block_amax
from precision_lab.lowprecision.recipes.scales import AmaxHistory, amax, scale_from_amax
from precision_lab.registry import Registry


@dataclass(frozen=True)
class Unscaled(Recipe):
    """Operands as they are, in FP32, or rounded to BF16: what every other recipe is compared with."""

    tensorwise = True

    def store(self, x: Tensor) -> Tensor:
        """float32 values of x as stored."""
        return x.float() if self.forward == FP32 else x.bfloat16().float()

    def _quantize(self, given: Given) -> Quantized:
        raise UsageError(f"recipe {self.name!r} stores numbers without a scale, not codes; use store(x)")


@dataclass(frozen=True)
class DelayedScaling(Recipe):
    """One scale per tensor, from the amaxes of earlier steps."""

    tensorwise = True
    history: int = 1024
    margin: int = 0
    most_recent: bool = False

    def state(self, role: Role) -> AmaxHistory:
        fmax = self.fmt(role).max_finite
        return AmaxHistory(fmax, self.history, self.margin, self.most_recent)

    def _scaling(self, given: Given) -> Scaling:
        state, role, fmt = given.state, given.role, self.fmt(given.role)
        if state is None:
            raise UsageError(
                f"state=None: recipe {self.name!r} scales by earlier steps; pass recipe.state({role!r})"
            )
        if state.fmax != fmt.max_finite:
            raise UsageError(
                f"state.fmax={state.fmax!r}: role {role!r} is stored as {fmt.name}, whose largest "
                f"number is {fmt.max_finite!r}; pass recipe.state({role!r})"
            )
        a = given.largest
        state.collect(a)
        scale = state.scale.to(given.x.device)
        return Scaling(scale, 1.0 / scale, None, a)


@dataclass(frozen=True)
class CurrentScaling(Recipe):
    """One scale per tensor, from that tensor's own amax."""

    tensorwise = True
    power_of_two: bool = False
    eps: float = 0.0

    def _scaling(self, given: Given) -> Scaling:
        a, fmax = given.largest, self.fmt(given.role).max_finite
        scale = scale_from_amax(a, fmax, power_of_two=self.power_of_two, eps=self.eps)
        return Scaling(scale, 1.0 / scale, None, a)


@dataclass(frozen=True)
class BlockScaling(Recipe):
    """FP32 scales of 1×128 pieces of inputs and gradients and of 128×128 blocks of weights."""

    power_of_two: bool = True
    eps: float = 0.0

    def _scaling(self, given: Given) -> Scaling:
        block = given.block(128)
        a = block_amax(given.matrix, block)
        scale = scale_from_amax(
            a, self.fmt(given.role).max_finite, power_of_two=self.power_of_two,
            largest=float(torch.finfo(given.x.dtype).max), eps=self.eps,
        )  # fmt: skip
        return Scaling(scale, 1.0 / scale, block, amax(a))


@dataclass(frozen=True)
class MXFP8(Recipe):
    """Power-of-two scales of pieces of 32 elements, stored as E8M0."""

    def _scaling(self, given: Given) -> Scaling:
        block = (32, 1) if given.columnwise else (1, 32)
        a = block_amax(given.matrix, block)
        inverse = float(np.float32(1) / np.float32(self.fmt(given.role).max_finite))
        codes = e8m0_codes(a * inverse)
        return Scaling(e8m0_reciprocals(codes), e8m0_values(codes), block, amax(a), codes)


@dataclass(frozen=True)
class NVFP4(Recipe):
    """E2M1 elements in pieces of 16 under E4M3 scales and one FP32 scale."""

    hadamard: bool = True
    stochastic: bool = True

    @property
    def stochastic_gradients(self) -> bool:
        return self.stochastic

    def _quantize(self, given: Given) -> Quantized:
        x, role, generator = given.x, given.role, given.generator
        stochastic = self.stochastic and role == "gradient"
        if not (self.hadamard and given.columnwise and role != "weight"):
            return quantize_nvfp4(
                x, given.block(GROUP), unrounded_amax=given.unrounded_amax, generator=generator,
                stochastic=stochastic,
            )  # fmt: skip
        # The transform mixes rows: the product over them is unchanged, for both operands are transformed.
        matrix = given.matrix.bfloat16()
        mixed = hadamard(matrix.t().contiguous())
        found = quantize_nvfp4(mixed, (1, GROUP), generator=generator, stochastic=stochastic)
        assert found.scale_codes is not None
        return Quantized(
            found.codes.t().reshape(x.shape), found.fmt, found.decode.t(), given.block(GROUP), found.amax,
            found.scale_codes.t(),
        )  # fmt: skip


ADA = "Ada, Hopper, Blackwell or newer (compute capability 8.9; on Ada CUDA 12.1)"
HOPPER = "Hopper, Blackwell or newer (compute capability 9.0; CUDA 12.9)"
BLACKWELL = "Blackwell or newer (compute capability 10.0)"

RECIPES: Registry[Recipe] = Registry(
    "recipe",
    Recipe,
    (
        Unscaled("fp32", "FP32 throughout", FP32, FP32, capability=(0, 0), fused="fp32", hardware="any"),
        Unscaled(
            "bf16", "operands rounded to BF16", BF16, BF16, capability=(8, 0), fused="bf16",
            hardware="Ampere or newer (compute capability 8.0)",
        ),
        DelayedScaling(
            "delayed", "FP8, one scale per tensor from the amaxes of the last 1024 steps", fused="fp32",
            hardware=ADA, constructor="DelayedScaling(amax_history_len=1024, amax_compute_algo=\"max\")",
        ),
        CurrentScaling(
            "current", "FP8, one scale per tensor from its own amax", fused="bf16", hardware=ADA,
            constructor="Float8CurrentScaling()",
        ),
        CurrentScaling(
            "current-pow2", "FP8, one power-of-two scale per tensor from its own amax", fused="bf16",
            power_of_two=True, hardware=ADA, constructor="Float8CurrentScaling()",
            environment="NVTE_FP8_CURRENT_SCALING_POWER_2_SCALES",
        ),
        BlockScaling(
            "block", "E4M3, power-of-two scales of 1×128 pieces, 128×128 for weights", gradient=E4M3,
            capability=(9, 0), hardware=HOPPER, constructor="Float8BlockScaling()",
        ),
        BlockScaling(
            "block-fp32", "E4M3, FP32 scales of 1×128 pieces, 128×128 for weights", gradient=E4M3,
            capability=(9, 0), power_of_two=False, hardware=HOPPER, constructor="Float8BlockScaling()",
            environment="NVTE_FP8_BLOCK_SCALING_FP32_SCALES",
        ),
        MXFP8(
            "mxfp8", "E4M3, E8M0 scales of 1×32 pieces", gradient=E4M3, capability=(10, 0),
            fused="bf16-amax", constructor="MXFP8BlockScaling()",
            hardware="Blackwell (compute capability 10.x; not 12.x yet)",
        ),
        NVFP4(
            "nvfp4", "E2M1, E4M3 scales of 1×16 pieces, Hadamard transform, stochastic gradients", E2M1, E2M1,
            capability=(10, 0), hardware=BLACKWELL, constructor="NVFP4BlockScaling()",
        ),
        NVFP4(
            "nvfp4-plain", "E2M1, E4M3 scales of 1×16 pieces, rounded to nearest", E2M1, E2M1,
            capability=(10, 0), fused="bf16", hadamard=False, stochastic=False, hardware=BLACKWELL,
            constructor="NVFP4BlockScaling(disable_rht=True, disable_stochastic_rounding=True)",
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
