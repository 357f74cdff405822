"""What is said of one recipe: a state, why, what would help, what to paste, what to leave in BF16."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from precision_lab.lowprecision.readiness.inputs import InputNumbers
from precision_lab.lowprecision.readiness.judging import (
    ACTIVATION,
    AT_LIMIT,
    BIAS,
    BIAS_LIMIT,
    CLIPPED,
    CLIPPED_LIMIT,
    GRADIENT,
    INPUT,
    NOT,
    NOT_EXAMINED,
    READY,
    Figure,
    noise_limit,
    reasons,
    rounding_noise,
    worst_state,
)
from precision_lab.lowprecision.readiness.remedies import REMEDIES, Remedy
from precision_lab.lowprecision.readiness.risk import Numbers, Tensors
from precision_lab.lowprecision.readiness.trained import evidence
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.recipes import Unscaled
from precision_lab.lowprecision.recipes.transformer_engine import recipe_lines, training_lines

WITH = "with"
UNTRAINED = "the probe has trained no model by it, and none by a recipe that stores the same elements"
NOT_CAPTURED = "the inputs of linear layers were not captured; capture again"


@dataclass(frozen=True)
class RecipeVerdict:
    """What is said of one recipe.

    Attributes:
        recipe: its name.
        verdict: "ready", "at the limit" or "not ready"; the first two may have "with NAME" of a remedy
            after them. "not examined" is what is otherwise ready, with inputs that were not looked at.
        forward_noise, gradient_noise, clipped: the deciding numbers, as `risk.Numbers`, of the layer where
            they are worst.
        why: a sentence for each number that is not within its limit, and for what else stands against it.
        remedies: the worst numbers with each remedy that was tried.
        hardware: compute capability that has it.
        state: "ready", "at the limit", "not ready" or "not examined": the verdict without its remedy.
        remedy: the name of the remedy that the verdict asks for; "" for none.
        gradient_bias: of the gradient, as `sampling.bias_of`, where it is worst, and three standard errors.
        input_noise: the worst noise of an input of a linear layer; NaN where none was examined.
        limits: of each number, by what the reasons call it.
        keep_bf16: modules whose products are to stay in BF16, by qualified name: those that do not hold.
        without_them: the state of all others; "" where nothing is to be kept.
        needs: the hardware, for people.
        recipe_code: lines of Python that make the recipe in Transformer Engine.
        training_code: the whole of it: the recipe, what stays in BF16, the step.
        trained: what the probe's models lost by it.
    """

    recipe: str
    verdict: str
    forward_noise: float
    gradient_noise: float
    clipped: float
    why: tuple[str, ...]
    remedies: Mapping[str, tuple[float, float, float]]
    hardware: tuple[int, int]
    state: str = ""
    remedy: str = ""
    gradient_bias: tuple[float, float] = (0.0, 0.0)
    input_noise: float = math.nan
    limits: Mapping[str, float] = field(default_factory=dict)
    keep_bf16: tuple[str, ...] = ()
    without_them: str = ""
    needs: str = ""
    recipe_code: str = ""
    training_code: str = ""
    trained: str = ""


@dataclass(frozen=True)
class Scope:
    """What a verdict is about.

    Attributes:
        captured: the layers are those of a model.
        blocks: they are its blocks, from first to last; otherwise they have no edges.
        inputs: of linear layers were looked at.
    """

    captured: bool = False
    blocks: bool = False
    inputs: bool = False


Judge = Callable[..., Numbers]


def limits(recipe: Recipe) -> dict[str, float]:
    """The most that each deciding number may be under a recipe, by what `reasons` calls it."""
    forward = noise_limit(recipe.forward)
    stochastic = recipe.stochastic_gradients
    return {
        ACTIVATION: forward, GRADIENT: noise_limit(recipe.gradient, stochastic=stochastic),
        BIAS: BIAS_LIMIT, CLIPPED: CLIPPED_LIMIT, INPUT: forward,
    }  # fmt: skip


def rounding(recipe: Recipe) -> dict[str, float]:
    """What rounding costs every tensor under a recipe, by the same names; of noises alone."""
    forward = rounding_noise(recipe.forward)
    gradient = rounding_noise(recipe.gradient, stochastic=recipe.stochastic_gradients)
    return {ACTIVATION: forward, GRADIENT: gradient, INPUT: forward}


def figures(recipe: Recipe, found: Sequence[tuple[str, Numbers]]) -> list[Figure]:
    """The deciding numbers of activations, by layer."""
    most, costs = limits(recipe), rounding(recipe)
    made = []
    for layer, n in found:
        for what, value, error in (
            (ACTIVATION, n.forward_noise, n.forward_error),
            (GRADIENT, n.gradient_noise, n.gradient_error),
            (BIAS, abs(n.bias), n.bias_error),
            (CLIPPED, n.clipped, n.clipped_error),
        ):
            made.append(Figure(what, layer, value, error, most[what], costs.get(what, 0.0)))
    return made


def input_figures(recipe: Recipe, inputs: Sequence[InputNumbers]) -> list[Figure]:
    """The deciding numbers of linear layers' inputs."""
    most, costs = limits(recipe), rounding(recipe)
    made = []
    for n in inputs:
        made.append(Figure(INPUT, n.name, n.noise, n.noise_error, most[INPUT], costs[INPUT]))
        made.append(Figure(CLIPPED, n.name, n.clipped, n.clipped_error, most[CLIPPED]))
    return made


def judge_recipe(
    recipe: Recipe,
    layers: Sequence[Tensors],
    found: Sequence[Numbers],
    inputs: Sequence[InputNumbers],
    judge: Judge,
    scope: Scope,
) -> RecipeVerdict:
    """The verdict on a recipe.

    Args:
        found: numbers of each layer.
        inputs: numbers of the inputs of linear layers.
        judge: the numbers of a layer with a remedy.
    """
    mine = figures(recipe, [(t.name, n) for t, n in zip(layers, found, strict=True)])
    of_inputs = input_figures(recipe, inputs)
    state = worst_state([*mine, *of_inputs])
    why = reasons([*mine, *of_inputs])
    keep, rest = _apart([*mine, *of_inputs], inputs, state)
    tried: dict[str, tuple[float, float, float]] = {}
    state, remedy = state, ""
    if state != READY and not isinstance(recipe, Unscaled):
        # What an activation's own figures are about need not hold without its remedy.
        activations = {t.name for t in layers}
        others = input_figures(recipe, [n for n in inputs if n.after not in activations])
        state, remedy = _with_remedies(recipe, layers, others, judge, scope, state, tried)
    state, said = _capped(recipe, state, scope)
    worst = max(found, key=lambda n: abs(n.bias), default=None)
    names = () if not scope.captured else keep
    return RecipeVerdict(
        recipe.name, f"{state} {WITH} {remedy}" if remedy and state != NOT_EXAMINED else state,
        *worst_numbers(found), (*why, *said), tried, recipe.capability, state, remedy,
        (0.0, 0.0) if worst is None else (worst.bias, 3 * worst.bias_error),
        max((n.noise for n in inputs), default=math.nan), limits(recipe), names,
        rest if names else "", recipe.hardware, "\n".join(recipe_lines(recipe)),
        training_lines(recipe, names), _trained(recipe),
    )  # fmt: skip


def _capped(recipe: Recipe, state: str, scope: Scope) -> tuple[str, list[str]]:
    """A state as far as what was trained, and what was looked at, bear it out; and why no further."""
    if isinstance(recipe, Unscaled):
        return state, []
    said = []
    seen = evidence(recipe.name)
    if seen is None:
        said.append(UNTRAINED)
    elif seen.costs:
        said.append(f"the format has its price: {seen.words}")
    if state == READY and said:
        state = AT_LIMIT
    if scope.captured and not scope.inputs:
        said.append(NOT_CAPTURED)
        state = NOT_EXAMINED if state == READY else state
    return state, said


def _trained(recipe: Recipe) -> str:
    seen = evidence(recipe.name)
    if isinstance(recipe, Unscaled):
        return ""
    return UNTRAINED if seen is None else seen.words


def _apart(of: Sequence[Figure], inputs: Sequence[InputNumbers], state: str) -> tuple[tuple[str, ...], str]:
    """Modules that are as bad as the worst, and the state of all others."""
    if state == READY:
        return (), ""
    bad = dict.fromkeys(f.layer for f in of if f.state == state)
    shared = {n.name: (n.name, *n.also) for n in inputs}
    names = {module_around(name) if layer not in shared or name.endswith("()") else name: None
             for layer in bad for name in shared.get(layer, (layer,))}  # fmt: skip
    whole = [n for n in names if not any(n.startswith(f"{other}.") for other in names)]
    return tuple(whole), worst_state([f for f in of if f.layer not in bad])


def module_around(name: str) -> str:
    """The module whose products an activation, or a call, lies between: the one that holds it."""
    return name.rpartition(".")[0] or name


def _with_remedies(
    recipe: Recipe,
    layers: Sequence[Tensors],
    of_inputs: Sequence[Figure],
    judge: Judge,
    scope: Scope,
    state: str,
    tried: dict[str, tuple[float, float, float]],
) -> tuple[str, str]:
    """The best state that a remedy brings about, and its name; fills in what was tried."""
    best = {state: ""}
    for remedy in REMEDIES.values():
        rest = _without_edges(layers, remedy)
        if remedy.name == "none" or not rest or (remedy.edge_bf16 and not scope.blocks):
            continue
        found = [judge(t, recipe, remedy=remedy) for t in rest]
        tried[remedy.name] = worst_numbers(found)
        edge = remedy.edge_bf16
        edges = {block_of(t.name) for t in (*layers[:edge], *layers[len(layers) - edge :])}
        others = [f for f in of_inputs if block_of(f.layer) not in edges]
        with_it = figures(recipe, [(t.name, n) for t, n in zip(rest, found, strict=True)])
        best.setdefault(worst_state([*with_it, *others]), remedy.name)
    for better in (READY, AT_LIMIT):
        if better in best:
            return better, best[better]
    return state, ""


def block_of(name: str) -> str:
    """The block of a model that a module is in: its name up to its first number, or all of it."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return name


def _without_edges(layers: Sequence[Tensors], remedy: Remedy) -> Sequence[Tensors]:
    """Layers that still go through the recipe."""
    edge = remedy.edge_bf16
    return layers[edge : len(layers) - edge] if edge else layers


def worst_numbers(found: Sequence[Numbers]) -> tuple[float, float, float]:
    """The largest forward noise, gradient noise and share clipped; NaN where one layer has none."""

    def largest(values: list[float]) -> float:
        return math.nan if not values or any(map(math.isnan, values)) else max(values)

    return (
        largest([n.forward_noise for n in found]),
        largest([n.gradient_noise for n in found]),
        largest([n.clipped for n in found]),
    )


__all__ = [
    "AT_LIMIT",
    "NOT",
    "NOT_EXAMINED",
    "READY",
    "RecipeVerdict",
    "Scope",
    "judge_recipe",
    "worst_numbers",
]
