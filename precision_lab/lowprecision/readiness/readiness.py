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
from functools import partial
from typing import Any

import numpy as np
import torch

from precision_lab.exceptions import UsageError
from precision_lab.functions import get_function
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.readiness.passage import EXACT, Path, exact_table
from precision_lab.lowprecision.readiness.quality import quality
from precision_lab.lowprecision.readiness.remedies import REMEDIES, Remedy
from precision_lab.lowprecision.readiness.risk import Numbers, Tensors, from_distribution, numbers
from precision_lab.lowprecision.readiness.weighed import KernelErrors, kernel_errors
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe

NOISE_LIMIT = 0.10  # of either tensor's channels
CLIPPED_LIMIT = 1e-3
READY, WITH, NOT = "ready", "ready with", "not ready"
COMPARED = ("swiglu", "gelu", "silu", "relu2")


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
class Amplification:
    """What an activation makes of a layer's outliers.

    Attributes:
        layer, function: which.
        kurtosis_in, kurtosis_out: of its input and output.
        amax_in, amax_out: largest magnitudes.
        crest_in, crest_out: largest magnitude over the root mean square.
    """

    layer: str
    function: str
    kurtosis_in: float
    kurtosis_out: float
    amax_in: float
    amax_out: float
    crest_in: float
    crest_out: float


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
    function: str,
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
    values = get_function(function).check_params(params)
    return [
        from_distribution(function, values, name, scale=scale, tokens=tokens, channels=channels)
        for name in distributions
    ]


def readiness(
    layers: Sequence[Tensors],
    *,
    source: str,
    recipes: Sequence[str] = tuple(RECIPES),
    path: Path = "fused",
    formulation: str = EXACT,
    growth: float = 1.0,
    warnings: Sequence[str] = (),
    captured: Captured | None = None,
    blocks: bool = False,
) -> Readiness:
    """Judges recipes by layers.

    Args:
        layers: as `modelled_layers` or `risk.from_capture` give them.
        source: a name for where they come from.
        path, formulation: as `activation.forward_passage`.
        growth: how many times larger tensors may be than delayed scaling has seen.
        captured: what the layers were drawn from; its counts weigh the errors of every implementation.
        blocks: the layers are the blocks of a model, from first to last; otherwise they have no edges.

    Raises:
        ValueError: no layers; unknown recipe, path or implementation; a growth below 1.
        KernelError: the implementation failed.
    """
    if not layers:
        raise UsageError("layers=[]: nothing to judge a recipe by")
    evidence, verdicts = [], []
    judge = partial(numbers, growth=growth, path=path, formulation=formulation)
    for recipe in recipes:
        get_recipe(recipe)
        found = [judge(tensors, recipe) for tensors in layers]
        evidence += [Evidence(t.name, t.function, recipe, n) for t, n in zip(layers, found, strict=True)]
        verdicts.append(_verdict(layers, recipe, found, judge, blocks))
    return Readiness(
        source, tuple(verdicts), tuple(evidence), tuple(_amplification(layers)), growth,
        (*warnings, *_empty(layers, evidence)),
        () if captured is None else tuple(kernel_errors(captured)),
    )  # fmt: skip


def _verdict(
    layers: Sequence[Tensors],
    recipe: str,
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
            if remedy.name == "none" or not rest or recipe in ("fp32", "bf16"):
                continue
            if remedy.edge_bf16 and not blocks:
                continue
            tried[remedy.name] = _worst([judge(t, recipe, remedy=remedy) for t in rest])
            if verdict == NOT and _within(tried[remedy.name]):
                verdict = f"{WITH} {remedy.name}"
    return RecipeVerdict(recipe, verdict, *worst, tuple(why), tried, get_recipe(recipe).capability)


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


def _amplification(layers: Sequence[Tensors]) -> list[Amplification]:
    found = []
    for tensors in layers:
        patterns = tensors.x.contiguous().view(torch.int16).numpy().view(np.uint16)
        x = tensors.x.double().numpy()
        # Where there is no gate, SwiGLU's is another row of the same inputs.
        gate = np.roll(x, 1, 0) if tensors.gate is None else tensors.gate.double().numpy()
        before = quality(x, x, x, np.zeros(x.shape, bool), 1.0)
        for name in dict.fromkeys((tensors.function, *COMPARED)):
            params = tensors.params if name == tensors.function else {}
            values = tuple(sorted(get_function(name).check_params(params).items()))
            y = exact_table(name, "forward", values)[patterns]
            if name == "swiglu" or (name == tensors.function and tensors.gate is not None):
                y = y * gate
            after = quality(y, y, y, np.zeros(y.shape, bool), 1.0)
            found.append(
                Amplification(
                    tensors.name, name, before.kurtosis, after.kurtosis, before.amax, after.amax, _crest(x),
                    _crest(y),
                )
            )  # fmt: skip
    return found


def _crest(x: Any) -> float:
    finite = x[np.isfinite(x)]
    if finite.size == 0 or not finite.any():
        return math.nan
    unit = np.abs(finite).max()
    return float(1 / np.sqrt(np.mean((finite / unit) ** 2)))


__all__ = [
    "CLIPPED_LIMIT", "NOISE_LIMIT", "Amplification", "Evidence", "Readiness", "RecipeVerdict",
    "modelled_layers", "readiness",
]  # fmt: skip
