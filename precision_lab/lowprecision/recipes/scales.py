"""From the largest magnitude of a tensor or block to the scale its elements are multiplied by.

Source: the rules of Transformer Engine 2.20 (`recipe_common.cuh`, `delayed_scaling.cu`), restated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.formats import FP32

FP32_MAX = FP32.max_finite
_POWER_OF_TWO = 0xFF80_0000 - (1 << 32)  # sign and exponent bits of float32, as int32


def amax(x: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The largest magnitude, NaN left out, as float32; 0 where there is nothing else.

    Args:
        x: any floating-point dtype.
        dim: dimensions to reduce; all when None.
    """
    if x.numel() == 0 and dim is None:
        return torch.zeros((), dtype=torch.float32, device=x.device)
    if dim is None:
        low, high = torch.aminmax(x)
        found = torch.maximum(-low, high).float().abs()  # of zeros it may be −0
        if not found.isnan():
            return found
        return x.abs().nan_to_num(nan=0.0, posinf=math.inf).amax().float()
    if x.numel() == 0:
        return x.float().sum(dim)  # zeros of the right shape
    found = torch.linalg.vector_norm(x, math.inf, dim=dim).float()
    if found.isnan().any():
        found = x.abs().nan_to_num(nan=0.0, posinf=math.inf).amax(dim).float()
    return found


def quotient(numerator: float, denominator: Tensor) -> Tensor:
    """RN(numerator/denominator): torch turns a division of a Python number into two roundings."""
    return torch.div(torch.full_like(denominator, numerator), denominator)


def scale_from_amax(
    a: Tensor, fmax: float, *, power_of_two: bool = False, largest: float = FP32_MAX, eps: float = 0.0
) -> Tensor:
    """RN(fmax/a) in FP32; 1 where a is 0 or infinite.

    Args:
        a: amaxes, float32, any shape.
        fmax: largest number of the format cast to.
        power_of_two: round the scale down to one.
        largest: what stands for a quotient that overflows.
        eps: a smaller amax counts as this.
    """
    a = a.clamp(min=eps)
    scale = quotient(fmax, a)
    scale = torch.where(scale.isinf(), largest, scale)
    scale = torch.where((a == 0) | ~a.isfinite(), torch.ones_like(a), scale)
    if power_of_two:
        scale = (scale.view(torch.int32) & _POWER_OF_TWO).view(torch.float32)
    return scale


@dataclass
class AmaxHistory:
    """What delayed scaling remembers of one tensor: the amaxes of earlier steps, and the scale from them.

    Attributes:
        fmax: largest number of the format cast to.
        length: steps remembered.
        margin: the scale is 2^−margin of what fits.
        most_recent: only the last amax counts, not the largest.
        history: float32, shape (length,); slot 0 collects this step's amax.
        scale: float32, 0-d.
    """

    fmax: float
    length: int = 1024
    margin: int = 0
    most_recent: bool = False
    history: Tensor = field(default_factory=lambda: torch.empty(0))
    scale: Tensor = field(default_factory=lambda: torch.ones(()))

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"length={self.length!r}: an amax history holds at least one step")
        if not 0 < self.fmax < math.inf:
            raise UsageError(f"fmax={self.fmax!r}: the largest number of a format is positive and finite")
        # So far 2^−margin times any quotient stays a normal number.
        if not isinstance(self.margin, int) or abs(self.margin) > 64:
            raise UsageError(f"margin={self.margin!r}: a whole number from -64 to 64")
        if self.history.numel() == 0:
            self.history = torch.zeros(self.length)
        if self.history.shape != (self.length,):
            raise UsageError(
                f"history.shape={tuple(self.history.shape)}: expected ({self.length},), its length"
            )
        if not (self.history >= 0).all():
            raise UsageError("history: amaxes are not negative, and no NaN")
        if not (self.scale.ndim == 0 and self.scale.isfinite() and self.scale > 0):
            raise UsageError(f"scale={self.scale!r}: a history's scale is one positive finite number")

    def collect(self, a: Tensor) -> None:
        """Notes the amax of a tensor cast in this step."""
        self.history[0] = torch.maximum(self.history[0], a.to(self.history))

    def step(self) -> None:
        """Ends a step: the scale of the next one, from this step's amax and the earlier ones."""
        if self.history[0] == 0:
            return
        a = self.history[0] if self.most_recent else self.history.max()
        self.history = torch.roll(self.history, -1)
        self.history[0] = 0.0
        if a.isfinite() and a > 0:
            self.scale = quotient(self.fmax * 2.0**-self.margin, a).clamp(max=FP32_MAX)

    def to_json(self) -> dict[str, Any]:
        """Numbers only; float32 survives the way through JSON unchanged."""
        return {
            "fmax": self.fmax,
            "length": self.length,
            "margin": self.margin,
            "most_recent": self.most_recent,
            "history": [float(v).hex() for v in self.history],
            "scale": float(self.scale).hex(),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> AmaxHistory:
        """The inverse of `to_json`.

        Raises:
            ValueError: a number is missing or out of its range; names it.
        """
        missing = {"fmax", "length", "margin", "most_recent", "history", "scale"} - set(found)
        if missing:
            raise UsageError(f"an amax history without {', '.join(sorted(missing))}")
        return cls(
            found["fmax"],
            found["length"],
            found["margin"],
            found["most_recent"],
            torch.tensor([float.fromhex(v) for v in found["history"]], dtype=torch.float32),
            torch.tensor(float.fromhex(found["scale"]), dtype=torch.float32),
        )
