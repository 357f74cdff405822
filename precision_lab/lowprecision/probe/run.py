"""What is trained, how, and what was seen of it: the records of one training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.subject import implementation_of
from precision_lab.lowprecision.probe import corpus
from precision_lab.lowprecision.probe.ageing import AGEINGS
from precision_lab.lowprecision.probe.model import ModelConfig
from precision_lab.lowprecision.readiness.remedies import get_remedy
from precision_lab.lowprecision.recipes.recipes import get_recipe
from precision_lab.system.typed import checked


@dataclass(frozen=True)
class TrainingConfig:
    """How a run is trained.

    Attributes:
        steps: optimiser's steps of a run from the beginning.
        warm_steps, aged_steps: of an aged run, in FP32 before its ageing and by its recipe after it.
        batch: sequences of a step.
        learning_rate: its largest value; it rises over the first tenth of a run and falls to a tenth of
            itself as a cosine.
        weight_decay: of matrices, as AdamW's.
        clip: norm that gradients are clipped to.
        evaluation: held-out batches that the final loss is the mean of.
        watch_every: steps between looks at kurtosis, parameters and clipping.
        checkpoint_every: steps between checkpoints; 0 for none.
    """

    steps: int = 100
    warm_steps: int = 200
    aged_steps: int = 32
    batch: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    evaluation: int = 40
    watch_every: int = 25
    checkpoint_every: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "aged_steps", "batch", "evaluation", "watch_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)!r}: at least 1")
        for name in ("warm_steps", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)!r}: at least 0")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay={self.weight_decay!r}: must be finite and not negative")
        longest = corpus.pieces_up_to()
        if self.model.context > longest:
            raise UsageError(f"context={self.model.context!r}: the held-out text has pieces of {longest}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)!r}: must be positive and finite")


@dataclass(frozen=True)
class Run:
    """What is trained.

    Attributes:
        subject: FUNCTION/FORMULATION, e.g. "xielu/naive".
        recipe: name of a recipe.
        seed: of weights, batches and stochastic rounding.
        ageing: name of an ageing; "" for a run from the beginning without any.
        remedy: name of a remedy.
    """

    subject: str
    recipe: str
    seed: int
    ageing: str = ""
    remedy: str = "none"

    def __post_init__(self) -> None:
        implementation_of(self.subject)
        get_recipe(self.recipe)
        get_remedy(self.remedy)
        if self.ageing and self.ageing not in AGEINGS:
            raise unknown_name("ageing", self.ageing, AGEINGS)

    @property
    def implementation(self) -> Implementation:
        """What the subject names."""
        return implementation_of(self.subject)

    @property
    def key(self) -> str:
        """A name for files."""
        subject = self.subject.replace("/", "-").replace(" ", "-").replace("[", "").replace("]", "")
        return ".".join([subject, self.recipe, self.ageing or "whole", self.remedy, str(self.seed)])


@dataclass
class Record:
    """What was seen of a run.

    Attributes:
        losses: of each step, nats per byte.
        gradient_norms: of each step, before clipping.
        watched: steps at which the next ones were seen.
        alphas: name of a parameter by block ("0.alpha_p") to its values at those steps.
        kurtosis: the same for "0.input" and "0.output" of each block's activation.
        clipping: the largest share of any operand that delayed scaling clipped at those steps, by role.
        validation_loss: mean over held-out batches at the end, nats per byte; None where it is not finite.
        diverged_at: first step at which the loss was not finite, or its mean over ten steps lay more
            than 1 nat above its least; None for a run that did not.
        weights: SHA-256 of the trained weights.
        seconds: wall time, without what was resumed.
    """

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    alphas: dict[str, list[float]] = field(default_factory=dict)
    kurtosis: dict[str, list[float]] = field(default_factory=dict)
    clipping: dict[str, list[float]] = field(default_factory=dict)
    validation_loss: float | None = None
    diverged_at: int | None = None
    weights: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything; numbers that are not finite become null."""
        return {k: _finite(v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """The inverse of `to_json`; numbers that were not finite are NaN.

        Raises:
            TypeError, ValueError: a field is missing or of another type, or lists are not of one length.
        """
        found = checked(cls(**{k: v if k in _SINGLE else _numbers(v) for k, v in data.items()}))
        if len(found.losses) != len(found.gradient_norms):
            raise ValueError(f"{len(found.losses)} losses, {len(found.gradient_norms)} gradient norms")
        for values in (*found.alphas.values(), *found.kurtosis.values(), *found.clipping.values()):
            if len(values) > len(found.watched):
                raise ValueError(f"{len(values)} values of {len(found.watched)} steps watched")
        return found


_SINGLE = ("validation_loss", "diverged_at", "weights", "seconds")


def _numbers(value: Any) -> Any:
    """Lists, or lists by name, with NaN for null."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    return [math.nan if v is None else v for v in value] if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return value


__all__ = ["Record", "Run", "TrainingConfig"]
