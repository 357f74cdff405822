"""What can be done for an activation that a recipe does not carry; a new one is a line here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from precision_lab.lowprecision.recipes.transformer_engine import IN_BF16
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
        code: the same as PyTorch, to be pasted and adapted.
    """

    name: str
    description: str
    smooth: bool = False
    alpha_cap: float = math.inf
    soften: float = math.inf
    edge_bf16: int = 0
    code: str = ""

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


# Powers of two: dividing and multiplying by them is exact in every format here. A gated layer is linear in
# its second factor, so that the division goes into that factor's weight; else it is a product of its own,
# before the cast.
SMOOTH = """\
import torch

@torch.no_grad()
def smooth(down, h, *, up=None, act=None):
    # h: what down receives, (…, channels); up: of a gated layer, act: of any other.
    # Repeat it as training goes on: channels grow.
    largest = h.float().abs().flatten(0, -2).amax(0)
    s = torch.where(largest > 0, 2 ** torch.floor(torch.log2(largest)), 1.0)
    down.weight *= s  # columns of the next weight
    if up is not None:
        up.weight /= s[:, None]  # rows of the weight before
        if up.bias is not None:
            up.bias /= s
    else:
        act.register_forward_hook(lambda module, args, y: y / s.to(y))
    return s
"""
EDGES = f"""\
{IN_BF16}
for block in (blocks[0], blocks[-1]):  # for instance blocks = model.model.layers
    in_bf16(block)
"""
TANH = """\
import torch

def softened(x, c=8.0):
    return torch.where(x > 0, c * torch.tanh(x / c), x)  # act(softened(x)) in place of act(x)
"""
CAP = """\
import torch

def capped(alpha_p, most=2.0):
    return torch.clamp(alpha_p, max=most)  # of the effective parameter, softplus(raw), in the forward pass
"""

REMEDIES = Registry(
    "remedy",
    Remedy,
    (
        Remedy("none", "nothing changed"),
        Remedy("smooth", "per-channel smoothing before the cast", smooth=True, code=SMOOTH),
        Remedy("tanh", "tanh-softened square, 8·tanh(x/8) in place of positive x", soften=8.0, code=TANH),
        Remedy("alpha-cap", "α_p capped at 2", alpha_cap=2.0, code=CAP),
        Remedy("edges", "first and last block in BF16", edge_bf16=1, code=EDGES),
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
