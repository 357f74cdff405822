"""What can be done for an activation that a recipe does not carry; a new one is a line here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from precision_lab.registry import Registry


@dataclass(frozen=True)
class Remedy:
    """A change to the model around its activations.

    Attributes:
        name: the project's name of it.
        description: one line for people.
        smooth: each channel is divided by a power of two near its largest magnitude before the cast, and
            the next weight's column multiplied by it (Fishman et al., arXiv 2409.12517, Smooth-SwiGLU).
        alpha_cap: effective α_p never counts as more.
        soften: positive x counts as c·tanh(x/c), so that the square stays below α_p·c² + β·c.
        edge_bf16: blocks at either end whose products stay in BF16, as Nemotron-H was trained.
    """

    name: str
    description: str
    smooth: bool = False
    alpha_cap: float = math.inf
    soften: float = math.inf
    edge_bf16: int = 0

    @property
    def changes(self) -> bool:
        """Whether the stored activation is another one than without it."""
        return self.smooth or math.isfinite(self.alpha_cap) or math.isfinite(self.soften)

    @property
    def elementwise(self) -> bool:
        """Whether what is stored of an element still depends on its x, and the tensor's scale, alone."""
        return not self.smooth and math.isinf(self.soften)

    def softened(self, x: Tensor) -> Tensor:
        """x, or what stands for it."""
        if math.isinf(self.soften):
            return x
        return torch.where(x > 0, self.soften * torch.tanh(x / self.soften), x)


REMEDIES = Registry(
    "remedy",
    Remedy,
    (
        Remedy("none", "nothing changed"),
        Remedy("smooth", "per-channel smoothing before the cast", smooth=True),
        Remedy("tanh", "tanh-softened square, 8·tanh(x/8) in place of positive x", soften=8.0),
        Remedy("alpha-cap", "α_p capped at 2", alpha_cap=2.0),
        Remedy("edges", "first and last block in BF16", edge_bf16=1),
    ),
)


def get_remedy(remedy: str | Remedy) -> Remedy:
    """The registered remedy of that name.

    Raises:
        ValueError: no such remedy; names the nearest ones.
    """
    return REMEDIES.get(remedy)


def smoothing_scales(h: Tensor) -> Tensor:
    """Powers of two, one per channel: the largest with s ≤ the channel's largest magnitude; 1 for zeros.

    Args:
        h: shape (…, channels), finite.

    Returns:
        float32, shape (channels,).
    """
    largest = h.detach().float().abs().reshape(-1, h.shape[-1]).amax(0)
    _, exponent = torch.frexp(largest)
    usable = (largest > 0) & largest.isfinite()
    return torch.where(usable, torch.exp2((exponent - 1).float()), torch.ones_like(largest))


__all__ = ["REMEDIES", "Remedy", "get_remedy", "smoothing_scales"]
