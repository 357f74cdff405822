"""What a capture's own counts say: the exact error at each bf16 number, as often as the number was seen.

Nothing is drawn. That serves a kernel, whose error depends on its input alone, and a recipe with one scale
for the whole tensor. Where blocks share a scale their neighbours matter, which a histogram does not keep:
there rows are drawn from it (`risk.from_capture`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import BF16
from precision_lab.functions import Activation
from precision_lab.implementations import implementations_for
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counts import CHANNEL_BITS, Histogram
from precision_lab.lowprecision.capture.recognised import activation_of
from precision_lab.lowprecision.readiness.passage import Passage, Path, forward_passage, input_passage
from precision_lab.lowprecision.readiness.quality import Quality
from precision_lab.lowprecision.readiness.values import Params, linear_params
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.oracle import reference
from precision_lab.results import Failure
from precision_lab.results.execution import EAGER, MODULE, OPERATOR, UPCAST
from precision_lab.running.case import case_of
from precision_lab.running.runner import run
from precision_lab.scoring.errors import nonfinite_mismatch, ulp_error, wrong_sign

Float64 = NDArray[np.float64]
EXECUTIONS = (EAGER, UPCAST, MODULE, OPERATOR)


@dataclass(frozen=True)
class KernelErrors:
    """What one layer's inputs meet in one implementation, in bf16.

    Shares and the mean are of the finite inputs that were counted; errors are certified to ±2⁻¹⁰ ulp.

    Attributes:
        layer, function, implementation, output: which.
        n: inputs.
        mean_ulp, p99_ulp, max_ulp: of the error's magnitude, where it is an ulp figure; p99 is the least
            that 99 % of the inputs do not exceed.
        beyond_one_ulp: share of inputs with a larger error than 1 ulp, or one that is no ulp figure.
        wrong_sign: share of inputs.
        nonfinite_mismatch: share of inputs with NaN or an infinity, or the lack of one, out of place.
        worst_bits: pattern of the input with the largest error, -1 where there is none.
    """

    layer: str
    function: str
    implementation: str
    output: str
    n: int
    mean_ulp: float
    p99_ulp: float
    max_ulp: float
    beyond_one_ulp: float
    wrong_sign: float
    nonfinite_mismatch: float
    worst_bits: int


def kernel_errors(captured: Captured) -> list[KernelErrors]:
    """Every known layer's errors in every registered implementation of its activation.

    A gated activation counts with 1 for the gate: what its kernel does to the first factor. An
    implementation that cannot be run here is left out.
    """
    found = []
    for layer in captured.layers:
        bits, often = _finite(layer.tensors["input"])
        try:
            function = activation_of(layer)
        except ValueError:  # `risk.from_capture` leaves it out by name
            continue
        if bits.size == 0:
            continue
        params = tuple(sorted(linear_params(function, layer.params).items()))
        for implementation in _subjects(function):
            for output, table in _tables(implementation, params).items():
                found.append(_weigh(layer.name, implementation, output, table, bits, often))
    return found


def _finite(histogram: Histogram) -> tuple[NDArray[np.int64], Float64]:
    """Finite patterns that were seen, and how often."""
    bits = np.flatnonzero(histogram.patterns)
    bits = bits[np.isfinite(BF16.decode(bits.astype(np.uint16)))]
    return bits, histogram.patterns[bits].astype(np.float64)


def _subjects(function: Activation) -> list[Implementation]:
    return [
        i for execution in EXECUTIONS for i in implementations_for(function, execution) if BF16 in i.formats
    ]


@dataclass(frozen=True)
class _Table:
    """Of every bf16 pattern: error in ulps (NaN if there is none), wrong sign, misplaced NaN or infinity."""

    error: Float64
    wrong: NDArray[np.bool_]
    misplaced: NDArray[np.bool_]


@lru_cache(maxsize=512)
def _tables(implementation: Implementation, params: Params) -> Mapping[str, _Table]:
    x = BF16.decode(BF16.all_bits())
    gates = {f"grad_{operand.name}" for operand in implementation.function.operands}
    outputs = tuple(o for o in implementation.measured_outputs() if o not in gates)
    case = case_of(implementation, BF16, dict(params), outputs)
    try:
        received = case.effective
    except KernelError:  # its library is not installed
        return {}
    tables = {}
    for output, values in run(case, x).items():
        if isinstance(values, Failure):
            continue
        exact = reference(implementation.function, output, received, x, BF16)
        computed = values.astype(np.float64)
        tables[output] = _Table(
            np.abs(ulp_error(computed, exact)),
            wrong_sign(computed, exact),
            nonfinite_mismatch(computed, exact),
        )
    return tables


def _weigh(
    layer: str,
    implementation: Implementation,
    output: str,
    table: _Table,
    bits: NDArray[np.int64],
    often: Float64,
) -> KernelErrors:
    error, wrong, misplaced = table.error[bits], table.wrong[bits], table.misplaced[bits]
    figure = ~np.isnan(error)
    total = float(often.sum())

    def share(of: NDArray[np.bool_]) -> float:
        return float(often[of].sum()) / total

    mean = p99 = largest = float("nan")
    worst = -1
    if figure.any():
        order = np.argsort(np.where(figure, error, np.inf), kind="stable")[: int(figure.sum())]
        ranked, counts = error[order], np.cumsum(often[order])
        mean = float(often[order] @ ranked) / float(counts[-1])
        p99 = float(ranked[np.searchsorted(counts, 0.99 * counts[-1])])
        largest, worst = float(ranked[-1]), int(bits[order[-1]])
    return KernelErrors(
        layer, implementation.function.name, implementation.label, output, int(total), mean, p99, largest,
        share(misplaced | (figure & (error > 1))), share(wrong), share(misplaced), worst,
    )  # fmt: skip


@dataclass(frozen=True)
class Weighed:
    """A tensor's passage, by what was counted of it.

    Attributes:
        quality: of the tensor.
        ratios: Σ(stored − exact)²/Σ exact² of each channel in which something is not zero; within a coarse
            pattern, the first 10 bits, channels are alike.
    """

    quality: Quality
    ratios: Float64


def weigh_forward(
    function: Activation,
    params: Mapping[str, float],
    histogram: Histogram,
    recipe: Recipe,
    *,
    path: Path,
    kernel: Implementation | None,
    growth: float,
    known_amax: float = 0.0,
) -> Weighed:
    """f(x) as the next matrix product receives it, under a recipe with one scale per tensor, or none.

    The scale is that of the counted numbers, or of `known_amax` where that is larger. Arguments as
    `passage.forward_passage`.

    Raises:
        ValueError: the recipe scales blocks; nothing finite was counted; as `passage.forward_passage`.
    """
    if not recipe.tensorwise:
        raise UsageError(f"recipe={recipe.name!r}: blocks share its scales; draw rows instead")
    bits, often, x = _met(histogram)
    passage = forward_passage(
        function, params, x, recipe, path=path, kernel=kernel, growth=growth,
        known_amax=known_amax,
    )  # fmt: skip
    return Weighed(passage.tensor(often[:, None]), _ratios(passage, bits, often, histogram))


def weigh_input(histogram: Histogram, recipe: Recipe, *, growth: float, known_amax: float = 0.0) -> Weighed:
    """A product's input as `weigh_forward` has an activation's result.

    Raises:
        ValueError: as `weigh_forward`.
    """
    if not recipe.tensorwise:
        raise UsageError(f"recipe={recipe.name!r}: blocks share its scales; draw rows instead")
    bits, often, x = _met(histogram)
    passage = input_passage(x, recipe, growth=growth, known_amax=known_amax)
    return Weighed(passage.tensor(often[:, None]), _ratios(passage, bits, often, histogram))


def _met(histogram: Histogram) -> tuple[NDArray[np.int64], Float64, torch.Tensor]:
    """Finite patterns that were counted, how often, and their values, shape (patterns, 1)."""
    bits, often = _finite(histogram)
    if bits.size == 0:
        raise UsageError("histogram: nothing finite was counted")
    return bits, often, torch.from_numpy(bits.astype(np.uint16).view(np.int16)).view(torch.bfloat16)[:, None]


def _ratios(passage: Passage, bits: NDArray[np.int64], often: Float64, histogram: Histogram) -> Float64:
    exact, stored = passage.exact[:, 0], passage.stored[:, 0]
    kept = np.isfinite(exact)
    unit = float(np.abs(exact[kept]).max(initial=0)) or 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        e = np.where(kept, exact, 0) / unit
        noise = np.where(kept, (stored / unit - e) ** 2, 0)
    noise = np.where(np.isfinite(noise), noise, e * e)  # as a value that is wholly lost
    coarse = bits >> (16 - CHANNEL_BITS)

    def per_coarse(values: Any) -> Float64:
        return np.bincount(coarse, values, minlength=1 << CHANNEL_BITS).astype(np.float64)

    total = per_coarse(often)
    scale = 1 / np.where(total > 0, total, 1)
    power, lost = (histogram.channels @ (per_coarse(often * v) * scale) for v in (e * e, noise))
    used = power > 0
    ratios: Float64 = lost[used] / power[used]
    return ratios


__all__ = ["KernelErrors", "Weighed", "kernel_errors", "weigh_forward", "weigh_input"]
