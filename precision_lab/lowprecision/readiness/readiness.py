"""May this activation be trained by this recipe? A verdict, the three numbers behind it, the evidence.

The limits are the recipes' own rounding with a margin. Values spread evenly over a binade and rounded to E4M3
have a root mean square error of 2.6 % of themselves, in E5M2 5.3 %; a channel whose noise is much above that
has lost more than rounding: small values to underflow, or large ones to clipping. The training probe of this
project shows how far these limits hold: see its report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from precision_lab.exceptions import UsageError
from precision_lab.formats import FP32
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.readiness.amplification import Amplification, amplifications
from precision_lab.lowprecision.readiness.passage import Path
from precision_lab.lowprecision.readiness.remedies import REMEDIES, Remedy
from precision_lab.lowprecision.readiness.risk import Numbers, Tensors, from_distribution, numbers
from precision_lab.lowprecision.readiness.weighed import KernelErrors, kernel_errors
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.recipes import RECIPES, Unscaled, get_recipe
from precision_lab.results.profile import DEFAULT

NOISE_LIMIT = 0.10  # of either tensor's channels
CLIPPED_LIMIT = 1e-3
READY, WITH, NOT = "ready", "ready with", "not ready"
EXACT = "exact"  # in a formulation's place: the correctly rounded result


@dataclass(frozen=True)
class RecipeVerdict:
    """What is said of one recipe.

    Attributes:
        recipe: its name.
        verdict: "ready", "ready with NAME" of a remedy, or "not ready".
        forward_noise, gradient_noise, clipped: the deciding numbers, as `risk.Numbers`, of the layer where
            they are worst.
        why: a sentence for each number over its limit.
        remedies: the worst numbers with each remedy that was tried.
        hardware: compute capability that has it.
    """

    recipe: str
    verdict: str
    forward_noise: float
    gradient_noise: float
    clipped: float
    why: tuple[str, ...]
    remedies: Mapping[str, tuple[float, float, float]]
    hardware: tuple[int, int]


@dataclass(frozen=True)
class Evidence:
    """One layer under one recipe: every measure of what is stored forward and of what goes back."""

    layer: str
    function: str
    recipe: str
    numbers: Numbers


@dataclass(frozen=True)
class Readiness:
    """Everything `precision-lab readiness` says.

    Attributes:
        source: where the inputs come from.
        verdicts: one for each recipe.
        evidence: one for each layer and recipe.
        amplification: one for each layer and function.
        growth: how much larger tensors may be than delayed scaling has seen.
        warnings: what was left out.
        kernels: what captured inputs meet in each implementation; nothing for modelled ones.
    """

    source: str
    verdicts: tuple[RecipeVerdict, ...]
    evidence: tuple[Evidence, ...]
    amplification: tuple[Amplification, ...]
    growth: float
    warnings: tuple[str, ...] = ()
    kernels: tuple[KernelErrors, ...] = ()

    def verdict(self, recipe: str) -> RecipeVerdict:
        """The verdict of that recipe.

        Raises:
            KeyError: it was not judged.
        """
        return {v.recipe: v for v in self.verdicts}[recipe]

    def to_json(self) -> dict[str, Any]:
        """Everything, with effective bits beside the ratios they come from."""
        found = {**asdict(self), "limits": {"noise": NOISE_LIMIT, "clipped": CLIPPED_LIMIT}}
        for row, e in zip(found["evidence"], self.evidence, strict=True):
            for name, q in (("forward", e.numbers.forward), ("gradient", e.numbers.gradient)):
                row["numbers"][name]["effective_bits"] = q.effective_bits
            row["numbers"]["score"] = e.numbers.score
        return found


def modelled_layers(
    function: str | Activation,
    params: Mapping[str, float] | None,
    distributions: Sequence[str],
    *,
    scale: float = 1.0,
    tokens: int = 256,
    channels: int = 512,
) -> list[Tensors]:
    """A layer for each distribution.

    Raises:
        ValueError: unknown function, parameter or distribution; scale is not positive and finite.
    """
    definition = get_function(function)
    values = definition.check_params(params)
    return [
        from_distribution(definition, values, name, scale=scale, tokens=tokens, channels=channels)
        for name in distributions
    ]


def readiness(
    layers: Sequence[Tensors],
    *,
    source: str,
    recipes: Sequence[str | Recipe] = tuple(RECIPES.values()),
    path: Path = "fused",
    formulation: str | Implementation = EXACT,
    growth: float = 1.0,
    warnings: Sequence[str] = (),
    captured: Captured | None = None,
    blocks: bool = False,
    compared: Sequence[str | Activation] = DEFAULT.lowprecision.compared,
) -> Readiness:
    """Judges recipes by layers.

    Args:
        layers: as `modelled_layers` or `risk.from_capture` give them.
        source: a name for where they come from.
        path: as `passage.forward_passage`.
        formulation: an implementation, or its name, such as "naive" or "stable [operator]"; "exact" for
            correctly rounded results.
        growth: how many times larger tensors may be than delayed scaling has seen.
        captured: what the layers were drawn from; its counts weigh the errors of every implementation.
        blocks: the layers are the blocks of a model, from first to last; otherwise they have no edges.
        compared: functions whose outliers are set beside those of the layers' own.

    Raises:
        ValueError: no layers; unknown recipe, path or implementation; a growth below 1.
        KernelError: the implementation failed.
    """
    if not layers:
        raise UsageError("layers=[]: nothing to judge a recipe by")
    evidence, verdicts = [], []
    kernels = {t.function: _kernel(formulation, t.function) for t in layers}

    def judge(tensors: Tensors, recipe: Recipe, remedy: str | Remedy = "none") -> Numbers:
        kernel = kernels[tensors.function]
        return numbers(tensors, recipe, remedy=remedy, growth=growth, path=path, kernel=kernel)

    for recipe in map(get_recipe, recipes):
        found = [judge(tensors, recipe) for tensors in layers]
        evidence += [
            Evidence(t.name, t.function.name, recipe.name, n) for t, n in zip(layers, found, strict=True)
        ]
        verdicts.append(_verdict(layers, recipe, found, judge, blocks))
    return Readiness(
        source, tuple(verdicts), tuple(evidence),
        tuple(amplifications(layers, tuple(map(get_function, compared)))), growth,
        (*warnings, *_empty(layers, evidence)),
        () if captured is None else tuple(kernel_errors(captured)),
    )  # fmt: skip


def _kernel(formulation: str | Implementation, function: Activation) -> Implementation | None:
    return None if formulation == EXACT else resolve(formulation, function, FP32)


def _verdict(
    layers: Sequence[Tensors],
    recipe: Recipe,
    found: Sequence[Numbers],
    judge: Callable[..., Numbers],
    blocks: bool,
) -> RecipeVerdict:
    worst = _worst(found)
    why = _why(layers, found)
    tried: dict[str, tuple[float, float, float]] = {}
    verdict = READY
    if why:
        verdict = NOT
        for remedy in REMEDIES.values():
            rest = _without_edges(layers, remedy)
            if remedy.name == "none" or not rest or isinstance(recipe, Unscaled):
                continue
            if remedy.edge_bf16 and not blocks:
                continue
            tried[remedy.name] = _worst([judge(t, recipe, remedy=remedy) for t in rest])
            if verdict == NOT and _within(tried[remedy.name]):
                verdict = f"{WITH} {remedy.name}"
    return RecipeVerdict(recipe.name, verdict, *worst, tuple(why), tried, recipe.capability)


def _without_edges(layers: Sequence[Tensors], remedy: Remedy) -> Sequence[Tensors]:
    """Layers that still go through the recipe."""
    edge = remedy.edge_bf16
    return layers[edge : len(layers) - edge] if edge else layers


def _worst(found: Sequence[Numbers]) -> tuple[float, float, float]:
    def largest(values: list[float]) -> float:
        return math.nan if any(map(math.isnan, values)) else max(values)

    return (
        largest([n.forward_noise for n in found]),
        largest([n.gradient_noise for n in found]),
        largest([n.clipped for n in found]),
    )


def _within(worst: tuple[float, float, float]) -> bool:
    forward, gradient, clipped = worst
    return forward <= NOISE_LIMIT and gradient <= NOISE_LIMIT and clipped <= CLIPPED_LIMIT


def _why(layers: Sequence[Tensors], found: Sequence[Numbers]) -> list[str]:
    said = []
    for what, limit, values in (
        ("noise of the stored activation", NOISE_LIMIT, [n.forward_noise for n in found]),
        ("noise of the stored gradient", NOISE_LIMIT, [n.gradient_noise for n in found]),
        ("share clipped", CLIPPED_LIMIT, [n.clipped for n in found]),
    ):
        empty = [layers[i].name for i, v in enumerate(values) if math.isnan(v)]
        if empty:
            said.append(f"{what}: nothing finite to judge by in {', '.join(empty)}")
        over = [i for i, v in enumerate(values) if v > limit]
        if over:
            i = max(over, key=lambda k: values[k])
            said.append(
                f"{what} {values[i]:.2%} in {layers[i].name} ({len(over)} of {len(values)} over {limit:.1%})"
            )
    return said


def _empty(layers: Sequence[Tensors], evidence: Sequence[Evidence]) -> list[str]:
    """A sentence for each tensor that is zero throughout: stored as it is, and no test of a recipe."""
    zero = {
        (e.layer, what): None
        for e in evidence
        for what, q in (("f(x)", e.numbers.forward), ("the gradient", e.numbers.gradient))
        if q.n and q.amax == 0
    }
    return [f"layer {name!r}: {what} is 0 throughout, which tests no recipe" for name, what in zero]


__all__ = [
    "CLIPPED_LIMIT", "EXACT", "NOISE_LIMIT", "Evidence", "Readiness", "RecipeVerdict",
    "modelled_layers", "readiness",
]  # fmt: skip
