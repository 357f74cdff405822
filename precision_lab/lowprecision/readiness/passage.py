"""An activation on its way into the next matrix product: exact f(x) against what a recipe lets through.

Pre-activations are BF16, as a matrix product leaves them, so that there are 2^16 of them: exact values, and
what a kernel makes of them, come from tables of all (`values`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import BF16, FP32, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.readiness.quality import Quality, quality
from precision_lab.lowprecision.readiness.remedies import smoothing_scales
from precision_lab.lowprecision.readiness.values import computed_at, computed_table, exact_at, exact_table
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.quantized import BEYOND, Quantized, as_matrix, per_element
from precision_lab.lowprecision.recipes.recipes import Unscaled, get_recipe
from precision_lab.lowprecision.recipes.scales import AmaxHistory, amax

Float64 = NDArray[np.float64]
Path = Literal["fused", "unfused", "fp8-in"]


@lru_cache
def binades(fmt: FloatFormat) -> float:
    """log₂ of a format's largest number over its smallest one."""
    return math.log2(fmt.max_finite) - math.log2(fmt.min_subnormal)


@dataclass(frozen=True)
class Passage:
    """What a recipe made of a tensor.

    Attributes:
        exact: float64, shape (tokens, channels).
        stored: float64 values of what was stored, the shape of exact.
        elements: float64 values of the stored codes before they are scaled back; stored, without a scale.
        clipped: where the cast met a value beyond its largest number.
        fmt: format of the elements.
    """

    exact: Float64
    stored: Float64
    elements: Float64
    clipped: NDArray[np.bool_]
    fmt: FloatFormat

    def tensor(self, weights: Float64 | None = None) -> Quality:
        """Quality of the tensor as a whole; weights, the shape of exact, say how often each value occurs."""
        return self._quality(slice(None), weights)

    def channels(self) -> list[Quality]:
        """Quality of each channel, that is of each column."""
        return [self._quality(j) for j in range(self.exact.shape[1])]

    def _quality(self, j: int | slice, weights: Float64 | None = None) -> Quality:
        return quality(
            self.exact[:, j], self.stored[:, j], self.elements[:, j], self.clipped[:, j],
            binades(self.fmt), weights,
        )  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """How a tensor goes, and by what; the arguments of `forward_passage`."""

    recipe: Recipe
    path: Path
    kernel: Implementation | None
    gate: Tensor | None
    state: AmaxHistory | None
    generator: torch.Generator | None
    growth: float
    known_amax: float
    smooth: bool = False
    upstream: Tensor | None = None
    gate_in_upstream: bool = False

    @property
    def fused(self) -> bool:
        """Whether the kernel that computes the activation casts it too."""
        return self.recipe.name == "fp32" or (bool(self.recipe.fused) and self.path != "unfused")

    @property
    def output(self) -> Literal["forward", "grad_x"]:
        """What of the activation is cast."""
        return "forward" if self.upstream is None else "grad_x"

    @property
    def role(self) -> Literal["input", "gradient"]:
        return "input" if self.upstream is None else "gradient"


def forward_passage(
    function: Activation,
    params: Mapping[str, float] | None,
    x: Tensor,
    recipe: str | Recipe,
    *,
    path: Path = "fused",
    kernel: Implementation | None = None,
    gate: Tensor | None = None,
    state: AmaxHistory | None = None,
    generator: torch.Generator | None = None,
    growth: float = 1.0,
    smooth: bool = False,
    known_amax: float = 0.0,
) -> Passage:
    """f(x) as the next matrix product receives it.

    Args:
        x: bfloat16, shape (…, channels).
        path: "fused" computes in FP32 and casts as the recipe's fused kernel does, "unfused" stores BF16 in
            between, "fp8-in" stores x by the recipe first and then goes on as "fused". A recipe that
            is not fused is "unfused" in its place.
        kernel: what computes the activation; None for correctly rounded results.
        gate: bfloat16, the shape of x; what the result is multiplied by, as in SwiGLU.
        known_amax: the tensor's largest magnitude where x is a part of it, for scales of the whole tensor.
        state: the history of this tensor under delayed scaling; by default one that has seen this tensor.
        growth: that default history saw it this many times smaller.
        smooth: channels are divided by powers of two before the cast, as `remedies.smoothing_scales`.

    Raises:
        ValueError: unknown parameter, path or recipe; x is not bfloat16; a gate is missing or of another
            shape.
        KernelError: the implementation failed.
    """
    way = _Way(get_recipe(recipe), path, kernel, gate, state, generator, growth, known_amax, smooth)
    return _passage(function, params, x, way)


def gradient_passage(
    function: Activation,
    params: Mapping[str, float] | None,
    x: Tensor,
    upstream: Tensor,
    recipe: str | Recipe,
    *,
    path: Path = "fused",
    kernel: Implementation | None = None,
    gate: Tensor | None = None,
    state: AmaxHistory | None = None,
    generator: torch.Generator | None = None,
    growth: float = 1.0,
    known_amax: float = 0.0,
    gate_in_upstream: bool = False,
) -> Passage:
    """upstream·f′(x) as the previous layer's two matrix products receive it; arguments as `forward_passage`.

    Args:
        upstream: bfloat16, the shape of x: the gradient of the loss by f(x), or by f(x)·gate.
        gate_in_upstream: it is that by f(x), and holds the gate as a factor already.
    """
    _check_pair("upstream", upstream, x)
    way = _Way(
        get_recipe(recipe), path, kernel, gate, state, generator, growth, known_amax, upstream=upstream,
        gate_in_upstream=gate_in_upstream,
    )  # fmt: skip
    return _passage(function, params, x, way)


def input_passage(
    x: Tensor,
    recipe: str | Recipe,
    *,
    growth: float = 1.0,
    known_amax: float = 0.0,
) -> Passage:
    """A product's input as the product receives it: x in place of `forward_passage`'s f(x).

    Raises:
        ValueError: unknown recipe; x is not bfloat16.
    """
    recipe = get_recipe(recipe)
    if x.dtype != torch.bfloat16 or x.ndim == 0:
        raise UsageError(f"x is {x.dtype} of shape {tuple(x.shape)}: expected bfloat16 (…, channels)")
    rows = as_matrix(x.detach())
    exact = rows.cpu().double().numpy()
    if isinstance(recipe, Unscaled):
        kept = recipe.store(rows).cpu().double().numpy()
        return Passage(exact, kept, kept, np.isinf(kept) & np.isfinite(exact), recipe.forward)
    tensor, found = _stored(rows.float(), _Way(recipe, "unfused", None, None, None, None, growth, known_amax))
    stored, elements = (values.cpu().double().numpy() for values in (found.dequantize(), found.values()))
    return Passage(exact, stored, elements, _clipped(tensor, found), found.fmt)


def _passage(function: Activation, params: Mapping[str, float] | None, x: Tensor, way: _Way) -> Passage:
    recipe, gate, fused, output = way.recipe, way.gate, way.fused, way.output
    if way.path not in get_args(Path):
        raise unknown_name("path", way.path, get_args(Path))
    if x.dtype != torch.bfloat16 or x.ndim == 0:
        raise UsageError(f"x is {x.dtype} of shape {tuple(x.shape)}: expected bfloat16 (…, channels)")
    if gate is not None or function.is_gated:
        _check_pair("gate", gate, x)
    values = tuple(sorted(function.check_params(params).items()))
    factor = np.ones(())
    for tensor in (None if way.gate_in_upstream else gate, way.upstream):
        if tensor is not None:
            factor = factor * as_matrix(tensor.detach()).cpu().double().numpy()
    rows = as_matrix(x.detach())
    pattern = rows.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    exact = exact_table(function, output, values)[pattern] * factor
    if way.path == "fp8-in" and not isinstance(recipe, Unscaled):
        state = _warm(recipe, "input", amax(rows))
        arrived = recipe.quantize(rows, state=state, generator=way.generator)
        point = arrived.dequantize().cpu().double().numpy()
        if way.kernel is None:
            computed = exact_at(function, output, values, point)
        else:
            computed = computed_at(way.kernel, output, values, point)
    elif way.kernel is None:
        computed = exact_table(function, output, values)[pattern]  # rounded below, and once
    else:
        computed = computed_table(way.kernel, output, values, FP32 if fused else BF16)[pattern]
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = (FP32 if fused else BF16).round(computed * factor)
        result = torch.from_numpy(rounded.astype(np.float32)).to(x.device)
    scales = smoothing_scales(result) if way.smooth else torch.ones(result.shape[1], device=x.device)
    result = result / scales  # exact: powers of two
    back = scales.cpu().double().numpy()
    if isinstance(recipe, Unscaled):
        kept = recipe.store(result).cpu().double().numpy() * back
        return Passage(exact, kept, kept, np.isinf(kept) & np.isfinite(exact), recipe.forward)
    tensor, found = _stored(result, way)
    stored, elements = (values.cpu().double().numpy() for values in (found.dequantize(), found.values()))
    return Passage(exact, stored * back, elements, _clipped(tensor, found), found.fmt)


def _stored(result: Tensor, way: _Way) -> tuple[Tensor, Quantized]:
    """A kernel's FP32 result as it comes to the cast, and what the cast makes of it."""
    recipe, fused = way.recipe, way.fused
    tensor = result if recipe.fused == "fp32" and fused else result.bfloat16()
    a = amax(result if recipe.fused == "bf16" and fused else tensor).clamp(min=way.known_amax)
    state = way.state if way.state is not None else _warm(recipe, way.role, a, way.growth)
    found = recipe.quantize(tensor, way.role, state=state, unrounded_amax=a, generator=way.generator)
    return tensor, found


def _warm(
    recipe: Recipe, role: Literal["input", "gradient"], a: Tensor, growth: float = 1.0
) -> AmaxHistory | None:
    """A history that has seen this very amax, or a smaller one: what delayed scaling knew a step before."""
    state = recipe.state(role)
    if state is not None:
        state.collect(a / growth)
        state.step()
    return state


def _clipped(tensor: Tensor, found: Quantized) -> NDArray[np.bool_]:
    decode = found.decode.double()
    if found.block is not None:
        decode = per_element(decode, found.block, found.codes.shape)
    # Where NVFP4's block scale itself has become 0, values are lost below the range, not beyond it.
    over = (tensor.double().abs() > decode * BEYOND[found.fmt]) & (decode > 0) | ~tensor.isfinite()
    clipped: NDArray[np.bool_] = over.cpu().numpy()
    return clipped


def _check_pair(name: str, tensor: Tensor | None, x: Tensor) -> None:
    if tensor is None or tensor.dtype != torch.bfloat16 or tensor.shape != x.shape:
        seen = None if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise UsageError(f"{name}={seen}: expected bfloat16 of the shape of x, {tuple(x.shape)}")


__all__ = ["Passage", "forward_passage", "gradient_passage", "input_passage"]
