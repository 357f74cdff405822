"""Three numbers that say whether a recipe carries an activation, and a score made of two of them.

Channels count alike, whatever their size: the next weights make up for it, and a channel that vanishes beside
a large one is lost however little of the tensor's energy it held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counts import Histogram, Layer
from precision_lab.lowprecision.capture.recognised import activation_of
from precision_lab.lowprecision.readiness.distributions import modelled
from precision_lab.lowprecision.readiness.passage import (
    Passage,
    Path,
    forward_passage,
    gradient_passage,
)
from precision_lab.lowprecision.readiness.quality import Quality
from precision_lab.lowprecision.readiness.remedies import Remedy, get_remedy
from precision_lab.lowprecision.readiness.sampling import (
    GROUPS,
    bias_error,
    bias_of,
    by_group,
    noise_error,
    share_error,
)
from precision_lab.lowprecision.readiness.weighed import weigh_forward
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.recipes import Unscaled, get_recipe

Float64 = NDArray[np.float64]
# Rows drawn from a histogram: fewer where a layer is wide, so that a model of 32 layers takes about a minute.
TOKENS = 128
_NUMBERS = 1 << 18


@dataclass(frozen=True)
class Tensors:
    """One layer's tensors, drawn or captured.

    Attributes:
        name: of the layer, or of the distribution.
        function, params: its activation.
        x, upstream: bfloat16, shape (tokens, channels).
        gate: the same, for a gated activation.
        counted: of x, where it was drawn from a histogram: what needs no drawing is weighed by it.
        amax: largest magnitudes of f(x)·gate, "stored", and of the gradient, "returned", where they were seen
            in the whole tensor: rows that were drawn may lack the outlier that sets a scale.
        gate_in_upstream: as `passage.gradient_passage`.
    """

    name: str
    function: Activation
    params: Mapping[str, float]
    x: Tensor
    upstream: Tensor
    gate: Tensor | None = None
    counted: Histogram | None = None
    amax: Mapping[str, float] = field(default_factory=dict)
    gate_in_upstream: bool = False


@dataclass(frozen=True)
class Numbers:
    """What decides.

    Attributes:
        forward_noise: root mean square over channels of |stored − exact| relative to the channel, each
            counted as at most 1.
        gradient_noise: the same of the gradient that goes back through the activation.
        clipped: the larger share of values beyond the format's range, of both.
        channels_lost: share of the stored activation's channels of which at least half the energy is noise.
        worst_channel_db: the least signal-to-quantisation-noise ratio of one of its channels.
        forward, gradient: all measures of both tensors.
        forward_error, gradient_error, clipped_error: standard errors of the first three by their sampling; 0
            of what was weighed by everything that was counted.
        bias, bias_error: `sampling.bias_of` the gradient, and its standard error.
    """

    forward_noise: float
    gradient_noise: float
    clipped: float
    channels_lost: float
    worst_channel_db: float
    forward: Quality
    gradient: Quality
    forward_error: float = 0.0
    gradient_error: float = 0.0
    clipped_error: float = 0.0
    bias: float = 0.0
    bias_error: float = 0.0

    @property
    def score(self) -> float:
        """√(forward² + gradient²): the predicted risk."""
        return math.hypot(self.forward_noise, self.gradient_noise)


def channel_ratios(passage: Passage) -> Float64:
    """Σ(stored − exact)²/Σ exact² of each channel in which something finite is not zero; may be infinite."""
    finite = np.isfinite(passage.exact)
    unit = np.where(finite, np.abs(passage.exact), 0).max(0, initial=0)
    used = unit > 0
    e = np.where(finite, passage.exact, 0)[:, used] / unit[used]
    with np.errstate(invalid="ignore", over="ignore"):
        s = np.where(finite, passage.stored, 0)[:, used] / unit[used]
        ratios: Float64 = np.sum((s - e) ** 2, 0) / np.sum(e**2, 0)
    return np.where(np.isnan(ratios), np.inf, ratios)


def channel_noise(ratios: Float64, finite: int = 0) -> float:
    """`Numbers.forward_noise` of channels with these ratios.

    Without any, 0 for a tensor of so many finite numbers, all of them zero; NaN if it has none.
    """
    if ratios.size == 0:
        return 0.0 if finite else math.nan
    return math.sqrt(float(np.minimum(ratios, 1).mean()))


def numbers(
    tensors: Tensors,
    recipe: str | Recipe,
    *,
    remedy: str | Remedy = "none",
    growth: float = 1.0,
    path: Path = "fused",
    kernel: Implementation | None = None,
    seed: int = 0,
) -> Numbers:
    """The numbers of one layer under a recipe.

    Args:
        growth: how many times larger its tensors are than delayed scaling has seen.
        path, kernel: as `passage.forward_passage`.
        seed: of stochastic rounding.

    Raises:
        ValueError: growth is below 1 or not finite; else as `passage.forward_passage`.
    """
    recipe, remedy = get_recipe(recipe), get_remedy(remedy)
    found = _numbers(tensors, recipe, remedy, growth, path, kernel, seed)
    apart = _scales_apart(tensors, recipe)
    if apart == 0:
        return found
    # What one scale for the tensor clips, or lets vanish, hangs on the largest number that there is, or that
    # delayed scaling saw; another sample has another.
    if growth > 1 and recipe.state("input") is not None:
        more, less = (
            _numbers(tensors, recipe, remedy, max(1.0, growth * math.exp(d)), path, kernel, seed)
            for d in (apart, -apart)
        )
        share = 0.5
    else:
        larger = {"stored": found.forward.amax, "returned": found.gradient.amax}
        larger = {what: a * math.exp(apart) for what, a in larger.items() if math.isfinite(a)}
        more = _numbers(replace(tensors, amax=larger), recipe, remedy, growth, path, kernel, seed)
        less, share = found, 1.0
    return replace(
        found,
        forward_error=math.hypot(found.forward_error, share * (more.forward_noise - less.forward_noise)),
        gradient_error=math.hypot(found.gradient_error, share * (more.gradient_noise - less.gradient_noise)),
        clipped_error=math.hypot(found.clipped_error, share * (more.clipped - less.clipped)),
        bias_error=math.hypot(found.bias_error, share * (more.bias - less.bias)),
    )


def _scales_apart(tensors: Tensors, recipe: Recipe) -> float:
    """Standard deviation of the logarithm of the largest magnitude, between parts of the rows.

    0 where nothing hangs on it: blocks have scales of their own; or where the largest of everything that
    passed is known.
    """
    if not recipe.tensorwise or isinstance(recipe, Unscaled) or tensors.counted is not None:
        return 0.0
    x = tensors.x.float().abs().nan_to_num(nan=0.0, posinf=0.0)
    largest = np.array([float(x[k::GROUPS].max()) for k in range(min(GROUPS, x.shape[0]))])
    if largest.size < 2 or not (largest > 0).all():
        return 0.0
    # What is stored grows as the square of x at most, and so does its logarithm twice as fast.
    return 2 * float(np.log(largest).std(ddof=1))


def _numbers(
    tensors: Tensors,
    recipe: Recipe,
    remedy: Remedy,
    growth: float,
    path: Path,
    kernel: Implementation | None,
    seed: int,
) -> Numbers:
    if not 1 <= growth < math.inf:
        raise UsageError(f"growth={growth!r}: at least 1 and finite")
    params, x, upstream = dict(tensors.params), tensors.x, tensors.upstream
    if "alpha_p" in params:
        params["alpha_p"] = min(params["alpha_p"], remedy.alpha_cap)
    if math.isfinite(remedy.soften):
        slope = torch.where(x > 0, 1 - torch.tanh(x.float() / remedy.soften) ** 2, torch.ones(()))
        x, upstream = remedy.softened(x.float()).bfloat16(), (upstream.float() * slope).bfloat16()
    generator = torch.Generator().manual_seed(seed)
    # What was seen of the whole tensor was seen without a remedy that changes it.
    known = tensors.amax if not remedy.changes else {}
    stored, returned = known.get("stored", 0.0), known.get("returned", 0.0)
    if tensors.counted is not None and tensors.gate is None and recipe.tensorwise and remedy.elementwise:
        weighed = weigh_forward(
            tensors.function, params, tensors.counted, recipe, path=path, kernel=kernel,
            growth=growth, known_amax=stored,
        )  # fmt: skip
        f, ratios, forward_error, clipped_error = weighed.quality, weighed.ratios, 0.0, 0.0
    else:
        forward = forward_passage(
            tensors.function, params, x, recipe, path=path, kernel=kernel, gate=tensors.gate,
            growth=growth, smooth=remedy.smooth, generator=generator, known_amax=stored,
        )  # fmt: skip
        f, ratios = forward.tensor(), channel_ratios(forward)
        noise, power, _, clipped = by_group(forward)
        # The channels of a model are all there are; modelled ones were drawn as its rows were.
        drawn = tensors.counted is None
        forward_error = noise_error(noise, power, drawn_channels=drawn)
        clipped_error = share_error(clipped, f.n)
    gradient = gradient_passage(
        tensors.function, params, x, upstream, recipe, path=path, kernel=kernel,
        gate=tensors.gate, growth=growth, generator=generator, known_amax=returned,
        gate_in_upstream=tensors.gate_in_upstream,
    )  # fmt: skip
    g = gradient.tensor()
    noise, power, product, clipped = by_group(gradient)
    with np.errstate(divide="ignore"):
        worst = float(-10 * np.log10(ratios.max())) if ratios.size else math.nan
    return Numbers(
        channel_noise(ratios, f.n), channel_noise(channel_ratios(gradient), g.n), max(f.overflow, g.overflow),
        float(np.mean(ratios >= 0.5)) if ratios.size else math.nan, worst, f, g, forward_error,
        noise_error(noise, power, drawn_channels=tensors.counted is None),
        max(clipped_error, share_error(clipped, g.n)), bias_of(product.sum(0), power.sum(0)),
        bias_error(product, power),
    )  # fmt: skip


def risk(
    layers: Sequence[Tensors],
    recipe: str | Recipe,
    *,
    remedy: str | Remedy = "none",
    growth: float = 1.0,
) -> float:
    """The predicted risk of training: root mean square of the layers' scores; those in BF16 as such."""
    remedy = get_remedy(remedy)
    edge = remedy.edge_bf16
    found = []
    for i, tensors in enumerate(layers):
        outer = i < edge or i >= len(layers) - edge
        chosen = "bf16" if outer and get_recipe(recipe).name != "fp32" else recipe
        found.append(numbers(tensors, chosen, remedy=remedy, growth=growth).score)
    return math.sqrt(math.fsum(s * s for s in found) / len(found))


def from_capture(
    captured: Captured, *, tokens: int | None = None, seed: int = 0
) -> tuple[list[Tensors], list[str]]:
    """Layers drawn from a capture, and a sentence for each that could not be.

    Args:
        tokens: rows to draw; 128 when None, down to 32 of a layer with more than 2,048 channels.

    Raises:
        ValueError: no layer's activation is known here.
    """
    rng = np.random.default_rng(seed)
    found, left_out = [], []
    for layer in captured.layers:
        try:
            few = rows_to_draw(layer.tensors["input"].amax.size)
            found.append(_drawn(layer, tokens or few, rng))
        except ValueError as error:
            left_out.append(f"layer {layer.name!r} is left out: {error}")
            continue
        if "gradient" not in layer.tensors:
            left_out.append(
                f"layer {layer.name!r}: no gradient was captured; a normal one, 0.001, stands in its place"
            )
    if not found and not captured.products:
        raise UsageError(f"no layer of the capture of {captured.model} can be judged: {'; '.join(left_out)}")
    return found, left_out


def rows_to_draw(channels: int) -> int:
    """Rows of a tensor of so many channels: 128, down to 32 of one with more than 2,048."""
    return max(TOKENS // 4, min(TOKENS, _NUMBERS // max(channels, 1)))


def _drawn(layer: Layer, tokens: int, rng: np.random.Generator) -> Tensors:
    function = activation_of(layer)
    gated = function.is_gated or "gate" in layer.tensors
    if gated and ("gate" not in layer.tensors or layer.moments is None):
        raise UsageError("its input and gate were not captured together")
    x, gate = layer.sample(tokens, rng)
    upstream = layer.tensors["gradient"].sample(tokens, rng) if "gradient" in layer.tensors else None
    return Tensors(
        layer.name, function, layer.params, _tensor(x),
        modelled(tokens=tokens, channels=x.shape[1], seed=1, scale=1e-3) if upstream is None
        else _tensor(upstream),
        _tensor(gate) if gated and gate is not None else None, layer.tensors["input"],
        layer.amax, layer.gate_in_gradient,
    )  # fmt: skip


def _tensor(patterns: NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(patterns.view(np.int16).copy()).view(torch.bfloat16)


def from_distribution(
    function: Activation,
    params: Mapping[str, float],
    distribution: str,
    *,
    scale: float = 1.0,
    tokens: int = 256,
    channels: int = 512,
    seed: int = 0,
) -> Tensors:
    """Modelled pre-activations, with normal gradients a thousandth as large.

    Raises:
        ValueError: as `distributions.modelled`.
    """
    x = modelled(distribution, tokens, channels, scale=scale, seed=seed)
    gate = None
    if function.is_gated:
        gate = modelled(distribution, tokens, channels, scale=scale, seed=seed + 1)
    return Tensors(
        distribution, function, dict(params), x,
        modelled("normal", tokens, channels, scale=1e-3, seed=seed + 2), gate,
    )  # fmt: skip


__all__ = [
    "Numbers",
    "Tensors",
    "channel_noise",
    "channel_ratios",
    "from_capture",
    "from_distribution",
    "numbers",
    "risk",
    "rows_to_draw",
]
