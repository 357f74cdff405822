"""The inputs of a model's linear layers under a recipe: q, k and v, attention's output, gate, down, lm_head.

Channels count alike, as in `risk`. The gradients of these layers are not captured, and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precision_lab.lowprecision.capture.counts import Product
from precision_lab.lowprecision.readiness.passage import input_passage
from precision_lab.lowprecision.readiness.risk import channel_noise, channel_ratios, rows_to_draw
from precision_lab.lowprecision.readiness.sampling import by_group, noise_error, share_error
from precision_lab.lowprecision.readiness.weighed import weigh_input
from precision_lab.lowprecision.recipes.base import Recipe


@dataclass(frozen=True)
class ProductInput:
    """The input of one linear layer, or of several that share it.

    Attributes:
        captured: what was counted.
        x: rows drawn from it, bfloat16, shape (tokens, channels).
    """

    captured: Product
    x: Tensor

    @property
    def name(self) -> str:
        return self.captured.name

    @property
    def outlier(self) -> float:
        """The largest channel's largest magnitude, over that of the median channel; 1 of zeros."""
        amax = self.captured.input.amax.astype(np.float64)
        median = float(np.median(amax))
        return float(amax.max()) / median if median > 0 else (math.inf if amax.any() else 1.0)


@dataclass(frozen=True)
class InputNumbers:
    """What a recipe makes of a product's input.

    Attributes:
        name, also, after: the layers that are given it, and the activation whose result it is, as captured.
        recipe: which.
        noise, clipped: as `risk.Numbers.forward_noise` and the share beyond the format's range.
        noise_error, clipped_error: their standard errors; 0 of what was weighed by everything counted.
        channels_lost: share of channels of which at least half the energy is noise.
        amax: its largest magnitude.
        outlier: as `ProductInput.outlier`.
    """

    name: str
    also: tuple[str, ...]
    after: str
    recipe: str
    noise: float
    clipped: float
    noise_error: float
    clipped_error: float
    channels_lost: float
    amax: float
    outlier: float


def product_inputs(products: Sequence[Product], *, seed: int = 0) -> tuple[list[ProductInput], list[str]]:
    """Inputs drawn from a capture's products, and a sentence for each that could not be."""
    rng = np.random.default_rng(seed)
    found, left_out = [], []
    for product in products:
        try:
            drawn = product.input.sample(rows_to_draw(product.input.amax.size), rng)
        except ValueError as error:
            left_out.append(f"product {product.name!r} is not examined: {error}")
            continue
        found.append(
            ProductInput(product, torch.from_numpy(drawn.view(np.int16).copy()).view(torch.bfloat16))
        )
    return found, left_out


def input_numbers(product: ProductInput, recipe: Recipe, *, growth: float = 1.0) -> InputNumbers:
    """The numbers of one input under a recipe; all that was counted is weighed where one scale serves it."""
    histogram = product.captured.input
    known = float(histogram.amax.max())
    if recipe.tensorwise:
        weighed = weigh_input(histogram, recipe, growth=growth, known_amax=known)
        q, ratios, errors = weighed.quality, weighed.ratios, (0.0, 0.0)
    else:
        passage = input_passage(product.x, recipe, growth=growth, known_amax=known)
        q, ratios = passage.tensor(), channel_ratios(passage)
        noise, power, _, clipped = by_group(passage)
        errors = noise_error(noise, power, drawn_channels=False), share_error(clipped, q.n)
    return InputNumbers(
        product.name, product.captured.also, product.captured.after, recipe.name,
        channel_noise(ratios, q.n), q.overflow, *errors,
        float(np.mean(ratios >= 0.5)) if ratios.size else 0.0, known, product.outlier,
    )  # fmt: skip


__all__ = ["InputNumbers", "ProductInput", "input_numbers", "product_inputs"]
