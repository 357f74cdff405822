"""Where formats fail as α grows or falls: maps over a parameter and the scale of the pre-activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.formats import E4M3, FP16
from precision_lab.functions import Activation
from precision_lab.lowprecision.readiness.distributions import modelled
from precision_lab.lowprecision.readiness.values import exact_table
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.quantized import BEYOND
from precision_lab.lowprecision.recipes.recipes import RECIPES

Float64 = NDArray[np.float64]
# The trained range that is known of: first layers near 170, deep ones far below the initial 0.8.
ALPHAS = tuple(float(f"{10**e:.3g}") for e in np.linspace(-2, math.log10(200), 14))
SCALES = tuple(2.0**e for e in range(-8, 9))


def _fp16_overflow(exact: Float64) -> float:
    limit = FP16.max_finite + FP16.max_finite * 2.0**-12  # the tie to infinity
    return float(np.mean(np.abs(exact) >= limit))


def _fp16_underflow(exact: Float64) -> float:
    nonzero = exact != 0
    lost = np.abs(exact) <= FP16.min_subnormal / 2  # a tie goes to even, that is to zero
    return float((nonzero & lost).sum() / max(nonzero.sum(), 1))


def _e4m3_saturation(exact: Float64) -> float:
    return float(np.mean(np.abs(exact) > BEYOND[E4M3]))


def _lost(recipe: Recipe) -> Callable[[Float64], float]:
    def share(exact: Float64) -> float:
        stored = recipe.round_trip(torch.from_numpy(exact.astype(np.float32))).numpy()
        nonzero = exact != 0
        return float((nonzero & (stored == 0)).sum() / max(nonzero.sum(), 1))

    return share


@dataclass(frozen=True)
class Question:
    """One map.

    Attributes:
        name, description: of the map.
        parameter: that varies.
        output: of the function, or "raw" for the gradient by the raw parameter.
        share: of the exact values that the format loses.
    """

    name: str
    description: str
    parameter: str
    output: str
    share: Callable[[Float64], float]


QUESTIONS = (
    Question("fp16-overflow", "f(x) overflows FP16", "alpha_p", "forward", _fp16_overflow),
    Question("e4m3-saturation", "f(x) saturates unscaled E4M3", "alpha_p", "forward", _e4m3_saturation),
    Question("mxfp8-underflow", "f(x) becomes 0 in MXFP8", "alpha_p", "forward", _lost(RECIPES["mxfp8"])),
    Question("current-underflow", "f(x) becomes 0 in E4M3 under one scale", "alpha_p", "forward",
             _lost(RECIPES["current"])),
    Question("fp16-grad-alpha-n", "∂f/∂aₙ (raw) becomes 0 in FP16", "alpha_n", "raw", _fp16_underflow),
    Question("mxfp8-grad-alpha-n", "∂f/∂aₙ (raw) becomes 0 in MXFP8", "alpha_n", "raw",
             _lost(RECIPES["mxfp8"])),
)  # fmt: skip


@dataclass(frozen=True)
class Map:
    """Shares lost, shape (alphas, scales)."""

    name: str
    description: str
    parameter: str
    alphas: tuple[float, ...]
    scales: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]


def maps(function: Activation, *, tokens: int = 64, channels: int = 256) -> list[Map]:
    """Every question's map, for normal pre-activations.

    Args:
        function: one with the parameters alpha_p and alpha_n.

    Raises:
        ValueError: the function has no such parameters.
    """
    parameters = {p.name: p for p in function.parameters}
    if not {"alpha_p", "alpha_n"} <= set(parameters):
        raise UsageError(f"function={function.name!r}: maps are over alpha_p and alpha_n, which it has not")
    patterns = [
        modelled("normal", tokens, channels, scale=s).view(torch.int16).numpy().view(np.uint16)
        for s in SCALES
    ]
    beta = function.check_params().get("beta", 0.0)
    found = []
    for question in QUESTIONS:
        rows = []
        for alpha in ALPHAS:
            # α_n = β + softplus(a_n) for xIELU, softplus(a_n) for xIPReLU: the axis is the softplus.
            shift = beta if parameters[question.parameter].raw == "softplus+beta" else 0.0
            params: Any = tuple(sorted(function.check_params({question.parameter: alpha + shift}).items()))
            if question.output == "raw":
                # d/da = σ(a)·d/dα, and σ(a) = 1 − exp(−softplus(a)).
                table = exact_table(function, f"grad_{question.parameter}", params) * -math.expm1(-alpha)
            else:
                table = exact_table(function, question.output, params)
            rows.append(tuple(question.share(table[p]) for p in patterns))
        found.append(
            Map(question.name, question.description, question.parameter, ALPHAS, SCALES, tuple(rows))
        )
    return found


__all__ = ["ALPHAS", "QUESTIONS", "SCALES", "Map", "maps"]
