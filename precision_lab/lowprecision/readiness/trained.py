"""What the probe's models lost by each recipe: the evidence beside the numbers.

The figures are those of the committed probe (`reports/readiness/readiness.json`), which a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEALTHY, EXTREME = "none", "extreme"
# A recipe that differs by its scales alone, and stores the same elements, has the evidence of its like.
LIKE = {"current-pow2": "current", "block-fp32": "block"}


@dataclass(frozen=True)
class Trained:
    """Held-out losses of models trained by a recipe, less FP32's, in nats per byte.

    Attributes:
        models: activations that were trained with healthy tensors.
        mean, most: of their gaps, each a mean over seeds.
        spread: the largest difference of two seeds' gaps in one of them.
        outliers: the largest gap with outlier channels that a 128-fold growth made; infinite where a run
            diverged.
        diverged: activations, of as many, whose runs diverged with channels grown 1024-fold.
        extreme: the largest gap there of those that did not diverge; NaN where all did.
    """

    models: int
    mean: float
    most: float
    spread: float
    outliers: float
    diverged: int
    extreme: float

    @property
    def costs(self) -> bool:
        """Whether healthy models lose more by the recipe than another seed makes a difference."""
        return self.mean > self.spread

    @property
    def words(self) -> str:
        """One sentence."""
        said = (
            f"{self.models} healthy models lost {self.mean:+.4f} nats per byte by it on average, at most "
            f"{self.most:+.4f} ({'more' if self.costs else 'no more'} than the {self.spread:.4f} that "
            f"another seed makes); with outlier channels at most {self.outliers:+.4f}"
        )
        if self.diverged:
            said += f"; with extreme ones {self.diverged} of {self.models} diverged, others"
            return f"{said} lost up to {self.extreme:+.4f}"
        return f"{said}, with extreme ones {self.extreme:+.4f}"


def trained(cells: Sequence[Mapping[str, Any]], recipe: str) -> Trained:
    """The evidence on a recipe in a probe's cells, as `prediction.summary` has them.

    Raises:
        ValueError: no healthy model was trained by it.
    """
    mine = [c for c in cells if c["recipe"] == recipe]

    def gaps(*ageings: str) -> list[float]:
        return [_number(c["gap"]) for c in mine if c["ageing"] in ageings]

    healthy, extreme = gaps(HEALTHY), gaps(EXTREME)
    if not healthy:
        raise ValueError(f"recipe={recipe!r}: no healthy model was trained by it")
    finite = [g for g in extreme if math.isfinite(g)]
    return Trained(
        len(healthy),
        round(math.fsum(healthy) / len(healthy), 5),
        round(max(healthy), 5),
        round(max(_number(c["spread"]) for c in mine if c["ageing"] == HEALTHY), 5),
        round(max(gaps("severe", "growing"), default=math.nan), 5),
        len(extreme) - len(finite),
        round(max(finite, default=math.nan), 5),
    )


def _number(found: object) -> float:
    return math.inf if found in (None, "inf") else float(found)  # type: ignore[arg-type]


TRAINED: Mapping[str, Trained] = {
    "bf16": Trained(5, 2e-05, 9e-05, 9e-05, 9e-05, 0, 9e-05),
    "delayed": Trained(5, 0.0004, 0.00055, 0.00127, 0.00694, 2, 2.47948),
    "current": Trained(5, 0.00052, 0.00083, 0.00089, 0.00588, 1, 2.3007),
    "block": Trained(5, 0.00055, 0.00113, 0.00154, 0.00092, 0, 0.35643),
    "mxfp8": Trained(5, 0.00059, 0.0012, 0.00152, 0.00102, 0, 0.01866),
    "nvfp4": Trained(5, 0.00445, 0.006, 0.00262, 0.03292, 2, 2.03488),
}


def evidence(recipe: str) -> Trained | None:
    """What was trained by that recipe, or by its like; None where nothing was."""
    return TRAINED.get(LIKE.get(recipe, recipe))


__all__ = ["LIKE", "TRAINED", "Trained", "evidence", "trained"]
