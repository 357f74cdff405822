"""An activation on its way into the next matrix product: exact f(x) against what a recipe lets through.

Pre-activations are BF16, as a matrix product leaves them, so that there are 2^16 of them: exact values come
from a table of all, certified by the oracle, and so does what a kernel makes of them.
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

from precision_lab.exceptions import KernelError, UsageError, unknown_name
from precision_lab.formats import FORMATS, get_format
from precision_lab.functions import get_function
from precision_lab.implementations import resolve
from precision_lab.lowprecision.readiness.quality import Quality, quality
from precision_lab.lowprecision.readiness.remedies import smoothing_scales
from precision_lab.lowprecision.recipes.quantized import BEYOND, Quantized, as_matrix, per_element
from precision_lab.lowprecision.recipes.recipes import Recipe, Unscaled, get_recipe
from precision_lab.lowprecision.recipes.scales import AmaxHistory, amax
from precision_lab.oracle import reference
from precision_lab.results import Failure
from precision_lab.running.case import case_of
from precision_lab.running.runner import run

Float64 = NDArray[np.float64]
Path = Literal["fused", "unfused", "fp8-in"]
EXACT = "exact"  # in a formulation's place: the correctly rounded result
# log₂ of the largest number over the smallest one.
_BINADES = {
    name: math.log2(f.max_finite) - math.log2(f.min_subnormal)
    for name, f in FORMATS.items()
    if f.rounds and f.bits < 64
}
_BF16 = get_format("bf16")


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
    fmt: str

    def tensor(self, weights: Float64 | None = None) -> Quality:
        """Quality of the tensor as a whole; weights, the shape of exact, say how often each value occurs."""
        return self._quality(slice(None), weights)

    def channels(self) -> list[Quality]:
        """Quality of each channel, that is of each column."""
        return [self._quality(j) for j in range(self.exact.shape[1])]

    def _quality(self, j: int | slice, weights: Float64 | None = None) -> Quality:
        return quality(
            self.exact[:, j], self.stored[:, j], self.elements[:, j], self.clipped[:, j],
            _BINADES[self.fmt], weights,
        )  # fmt: skip


def forward_passage(
    function: str,
    params: Mapping[str, float] | None,
    x: Tensor,
    recipe: str | Recipe,
    *,
    path: Path = "fused",
    formulation: str = EXACT,
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
        formulation: name of an implementation, such as "naive" or "stable [operator]", or "exact" for
            correctly rounded results.
        gate: bfloat16, the shape of x; what the result is multiplied by, as in SwiGLU.
        known_amax: the tensor's largest magnitude where x is a part of it, for scales of the whole tensor.
        state: the history of this tensor under delayed scaling; by default one that has seen this tensor.
        growth: that default history saw it this many times smaller.
        smooth: channels are divided by powers of two before the cast, as `remedies.smoothing_scales`.

    Raises:
        ValueError: unknown function, parameter, path, recipe or implementation; x is not bfloat16; a gate
            is missing or of another shape.
        KernelError: the implementation failed.
    """
    return _passage(
        function,
        params,
        x,
        recipe,
        "forward",
        path,
        formulation,
        gate,
        None,
        state,
        generator,
        growth,
        smooth,
        known_amax,
    )


def gradient_passage(
    function: str,
    params: Mapping[str, float] | None,
    x: Tensor,
    upstream: Tensor,
    recipe: str | Recipe,
    *,
    path: Path = "fused",
    formulation: str = EXACT,
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
    return _passage(
        function, params, x, recipe, "grad_x", path, formulation, gate, upstream, state, generator, growth,
        smooth=False, known_amax=known_amax, gate_in_upstream=gate_in_upstream,
    )  # fmt: skip


def _passage(
    function: str,
    params: Mapping[str, float] | None,
    x: Tensor,
    recipe: str | Recipe,
    output: str,
    path: Path,
    formulation: str,
    gate: Tensor | None,
    upstream: Tensor | None,
    state: AmaxHistory | None,
    generator: torch.Generator | None,
    growth: float,
    smooth: bool,
    known_amax: float,
    gate_in_upstream: bool = False,
) -> Passage:
    recipe = get_recipe(recipe)
    if path not in get_args(Path):
        raise unknown_name("path", path, get_args(Path))
    if x.dtype != torch.bfloat16 or x.ndim == 0:
        raise UsageError(f"x is {x.dtype} of shape {tuple(x.shape)}: expected bfloat16 (…, channels)")
    if gate is not None or get_function(function).name == "swiglu":
        _check_pair("gate", gate, x)
    values = tuple(sorted(get_function(function).check_params(params).items()))
    factor = np.ones(())
    for tensor in (None if gate_in_upstream else gate, upstream):
        if tensor is not None:
            factor = factor * as_matrix(tensor.detach()).cpu().double().numpy()
    rows = as_matrix(x.detach())
    pattern = rows.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    exact = exact_table(function, output, values)[pattern] * factor
    role: Literal["input", "gradient"] = "input" if upstream is None else "gradient"
    fused = recipe.name == "fp32" or (bool(recipe.fused) and path != "unfused")
    if path == "fp8-in" and not isinstance(recipe, Unscaled):
        arrived = recipe.quantize(rows, state=_warm(recipe, "input", amax(rows)), generator=generator)
        point = arrived.dequantize().cpu().double().numpy()
        computed = _computed_at(function, output, values, formulation, point)
    elif formulation == EXACT:
        computed = exact_table(function, output, values)[pattern]  # rounded below, and once
    else:
        computed = computed_table(function, output, values, formulation, "fp32" if fused else "bf16")[pattern]
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = get_format("fp32" if fused else "bf16").round(computed * factor)
        result = torch.from_numpy(rounded.astype(np.float32)).to(x.device)
    scales = smoothing_scales(result) if smooth else torch.ones(result.shape[1], device=x.device)
    result = result / scales  # exact: powers of two
    back = scales.cpu().double().numpy()
    if isinstance(recipe, Unscaled):
        kept = recipe.store(result).cpu().double().numpy() * back
        return Passage(exact, kept, kept, np.isinf(kept) & np.isfinite(exact), recipe.forward)
    tensor = result if recipe.fused == "fp32" and fused else result.bfloat16()
    a = amax(result if recipe.fused == "bf16" and fused else tensor).clamp(min=known_amax)
    found = recipe.quantize(
        tensor, role, state=state if state is not None else _warm(recipe, role, a, growth),
        unrounded_amax=a, generator=generator,
    )  # fmt: skip
    stored, elements = (values.cpu().double().numpy() for values in (found.dequantize(), found.values()))
    stored = stored * back
    return Passage(exact, stored, elements, _clipped(tensor, found), found.fmt)


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


Params = tuple[tuple[str, float], ...]


def linear_params(function: str, params: Params | Mapping[str, float]) -> dict[str, float]:
    """Parameters of the activation alone: SwiGLU's second input is a factor of its own, 1 here."""
    return {**dict(params), "b": 1.0} if function == "swiglu" else dict(params)


@lru_cache(maxsize=64)
def exact_table(function: str, output: str, params: Params) -> Float64:
    """An output at every bf16 number, by bit pattern, to about float64 precision; SwiGLU for b = 1.

    Raises:
        ValueError: as `oracle.reference`.
    """
    return _at(function, output, params, _BF16.decode(_BF16.all_bits()))


def _at(function: str, output: str, params: Params, x: Float64) -> Float64:
    points, where = np.unique(x, return_inverse=True)
    exact = reference(function, output, linear_params(function, params), points, "fp64").exact
    found: Float64 = exact[where.reshape(x.shape)]
    return found


def _computed_at(function: str, output: str, params: Params, formulation: str, x: Float64) -> Float64:
    """What a formulation computes in FP32 for these FP32 numbers; exact ones unrounded.

    Raises:
        KernelError: the implementation failed.
    """
    if formulation == EXACT:
        return _at(function, output, params, x)
    points, where = np.unique(x, return_inverse=True)
    return _run(function, output, params, formulation, points, "fp32")[where.reshape(x.shape)]


@lru_cache(maxsize=64)
def computed_table(function: str, output: str, params: Params, formulation: str, fmt: str) -> Float64:
    """What a formulation computes for every bf16 number, in fp32 or bf16, by bit pattern.

    Raises:
        KernelError: the implementation failed.
    """
    return _run(function, output, params, formulation, _BF16.decode(_BF16.all_bits()), fmt)


def _run(function: str, output: str, params: Params, formulation: str, x: Float64, fmt: str) -> Float64:
    source = get_format(fmt)
    implementation = resolve(formulation, get_function(function), source)
    found = run(case_of(implementation, source, linear_params(function, params), (output,)), x)[output]
    if isinstance(found, Failure):
        raise KernelError(found.kind, found.message)
    return found.astype(np.float64)


__all__ = [
    "EXACT", "Passage", "computed_table", "exact_table", "forward_passage", "gradient_passage",
    "linear_params",
]  # fmt: skip
