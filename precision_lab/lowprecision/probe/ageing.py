"""What long training does to a model, as a change that can be made to one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from precision_lab.functions import Activation
from precision_lab.oracle.infinity import growth_order


@dataclass(frozen=True)
class Ageing:
    """What long training does to a model, brought about at once or step by step.

    Some channels of each MLP see their weights grow and, where there is a gate, align; α_p grows. The next
    weight shrinks by as much as an activation of the same degree grows (2, or 1 for GELU and its like), so
    that what the model computes hardly changes: only what the casts see. Weights are stored as they were and
    scaled where they are used, so that the optimiser's steps mean what they meant before.

    Source of the picture: Fishman et al., arXiv 2409.12517, section 4.

    Attributes:
        name: the project's name of it.
        description: one line for people.
        channels: of each MLP, spread evenly.
        factor: by which their pre-activations grow.
        alpha: by which α_p grows.
        steps: over which both grow; 0 for at once.
    """

    name: str
    description: str
    channels: int = 4
    factor: float = 1.0
    alpha: float = 1.0
    steps: int = 0

    def at(self, step: int) -> tuple[float, float]:
        """Both factors, steps after the ageing began."""
        share = 1.0 if self.steps == 0 else min(step / self.steps, 1.0)
        return self.factor**share, self.alpha**share

    def growth(self, degree: int) -> float:
        """By how much the largest activations grow from one step to the next."""
        return float((self.factor**degree * self.alpha) ** (1 / self.steps)) if self.steps else 1.0


AGEINGS: dict[str, Ageing] = {
    ageing.name: ageing
    for ageing in (
        Ageing("none", "as trained"),
        Ageing("mild", "4 channels 16 times as large, aligned", factor=16.0),
        Ageing("severe", "4 channels 128 times as large, aligned", factor=128.0),
        Ageing("extreme", "4 channels 1024 times as large, aligned", factor=1024.0),
        Ageing(
            "growing", "4 channels growing 128-fold, α_p 200-fold, over 20 steps", factor=128.0, alpha=200.0,
            steps=20,
        ),
    )
}  # fmt: skip


def degree(function: Activation) -> int:
    """Power of x that the function grows with; a gate grows as x does."""
    order = growth_order(function.bound_expression("forward", function.check_params()), 1)
    own = 1 if order is None or not math.isfinite(order) else max(1, math.ceil(order))
    return own + len(function.operands)


__all__ = ["AGEINGS", "Ageing", "degree"]
