"""May this activation, or this model, be trained by this recipe? A verdict, and what is behind it.

`judging` says what the limits are and where they come from, `verdicts` what is made of them for each recipe,
`trained` what the probe's models lost by it, and `advice` what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from precision_lab.exceptions import UsageError
from precision_lab.formats import FP32
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.readiness.advice import LATE, advice
from precision_lab.lowprecision.readiness.amplification import Amplification, amplifications
from precision_lab.lowprecision.readiness.inputs import InputNumbers, input_numbers, product_inputs
from precision_lab.lowprecision.readiness.judging import BIAS_LIMIT, CLIPPED_LIMIT, NOISE_LIMIT
from precision_lab.lowprecision.readiness.passage import Path
from precision_lab.lowprecision.readiness.remedies import REMEDIES, Remedy
from precision_lab.lowprecision.readiness.risk import Numbers, Tensors, from_distribution, numbers
from precision_lab.lowprecision.readiness.verdicts import RecipeVerdict, Scope, judge_recipe
from precision_lab.lowprecision.readiness.weighed import KernelErrors, kernel_errors
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe
from precision_lab.lowprecision.recipes.transformer_engine import IN_BF16, SOURCE
from precision_lab.results.profile import DEFAULT

EXACT = "exact"  # in a formulation's place: the correctly rounded result


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
        seen: a sentence on what was looked at, and what that says nothing about.
        linear_inputs: one for each input of a linear layer and recipe; None where none were looked at.
        advice: what to do; lines of code begin with four spaces.
    """

    source: str
    verdicts: tuple[RecipeVerdict, ...]
    evidence: tuple[Evidence, ...]
    amplification: tuple[Amplification, ...]
    growth: float
    warnings: tuple[str, ...] = ()
    kernels: tuple[KernelErrors, ...] = ()
    seen: str = ""
    linear_inputs: tuple[InputNumbers, ...] | None = None
    advice: tuple[str, ...] = ()

    def verdict(self, recipe: str) -> RecipeVerdict:
        """The verdict of that recipe.

        Raises:
            KeyError: it was not judged.
        """
        return {v.recipe: v for v in self.verdicts}[recipe]

    def to_json(self) -> dict[str, Any]:
        """Everything, with effective bits beside the ratios they come from."""
        found = {
            **asdict(self),
            "limits": {"noise": NOISE_LIMIT, "clipped": CLIPPED_LIMIT, "bias": BIAS_LIMIT},
            "remedies": {r.name: {"description": r.description, "code": r.code} for r in REMEDIES.values()},
            "in_bf16": IN_BF16,
            "hardware_source": SOURCE,
        }
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
    products = None if captured is None else captured.products
    if not layers and not products:
        raise UsageError("layers=[]: nothing to judge a recipe by")
    drawn, left_out = product_inputs(products or ())
    scope = Scope(captured is not None, blocks, products is not None and not left_out)
    evidence, verdicts, inputs = [], [], []
    kernels = {t.function: _kernel(formulation, t.function) for t in layers}

    def judge(tensors: Tensors, recipe: Recipe, remedy: str | Remedy = "none") -> Numbers:
        kernel = kernels[tensors.function]
        return numbers(tensors, recipe, remedy=remedy, growth=growth, path=path, kernel=kernel)

    for recipe in map(get_recipe, recipes):
        found = [judge(tensors, recipe) for tensors in layers]
        evidence += [
            Evidence(t.name, t.function.name, recipe.name, n) for t, n in zip(layers, found, strict=True)
        ]
        of_inputs = [input_numbers(p, recipe, growth=growth) for p in drawn]
        inputs += of_inputs
        verdicts.append(judge_recipe(recipe, layers, found, of_inputs, judge, scope))
    return Readiness(
        source, tuple(verdicts), tuple(evidence),
        tuple(amplifications(layers, tuple(map(get_function, compared)))), growth,
        (*warnings, *left_out, *_empty(layers, evidence)),
        () if captured is None else tuple(kernel_errors(captured)), _seen(layers, captured),
        None if products is None else tuple(inputs),
        tuple(advice(verdicts, captured=captured is not None)),
    )  # fmt: skip


def _seen(layers: Sequence[Tensors], captured: Captured | None) -> str:
    """What the verdicts were seen on, and what they say nothing about."""
    if captured is None:
        return (
            f"Seen on {len(layers)} modelled distribution{'s' * (len(layers) > 1)} of the activation's "
            "input. The inputs of other linear layers (q, k, v, attention's output, lm_head) are not "
            "examined; --captured FILE examines your model's."
        )
    inputs = captured.products
    looked_at = f"{len(layers)} activation{'s' * (len(layers) != 1)}"
    if inputs is None:
        looked_at += " alone; the inputs of linear layers were not captured"
    else:
        linear = sum(1 + len(p.also) for p in inputs)
        looked_at += f" and the inputs of {linear} linear layers"
    weights = {
        True: "The weights look as they do before training",
        False: "The weights have been trained",
        None: "Whether the weights have been trained is not known",
    }[captured.initial]
    return (
        f"Seen on {captured.steps} step{'s' * (captured.steps > 1)}: {looked_at}. {weights}; {LATE}, so that "
        + ("this says little of a run." if captured.initial else "a later capture may say otherwise.")
    )


def _kernel(formulation: str | Implementation, function: Activation) -> Implementation | None:
    return None if formulation == EXACT else resolve(formulation, function, FP32)


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
