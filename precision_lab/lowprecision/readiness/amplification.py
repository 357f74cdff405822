"""What activations make of a layer's outliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from precision_lab.functions import Activation
from precision_lab.lowprecision.readiness.quality import quality
from precision_lab.lowprecision.readiness.risk import Tensors
from precision_lab.lowprecision.readiness.values import exact_table


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


def amplifications(layers: Sequence[Tensors], compared: Sequence[Activation]) -> list[Amplification]:
    """What each layer's own activation, and each that it is compared with, makes of the layer's inputs."""
    found = []
    for tensors in layers:
        patterns = tensors.x.contiguous().view(torch.int16).numpy().view(np.uint16)
        x = tensors.x.double().numpy()
        # Where there is no gate, a gated function's is another row of the same inputs.
        gate = np.roll(x, 1, 0) if tensors.gate is None else tensors.gate.double().numpy()
        before = quality(x, x, x, np.zeros(x.shape, bool), 1.0)
        for function in dict.fromkeys((tensors.function, *compared)):
            params = tensors.params if function == tensors.function else {}
            values = tuple(sorted(function.check_params(params).items()))
            y = exact_table(function, "forward", values)[patterns]
            if function.is_gated or (function == tensors.function and tensors.gate is not None):
                y = y * gate
            after = quality(y, y, y, np.zeros(y.shape, bool), 1.0)
            found.append(
                Amplification(
                    tensors.name, function.name, before.kurtosis, after.kurtosis, before.amax, after.amax,
                    _crest(x), _crest(y),
                )
            )  # fmt: skip
    return found


def _crest(x: Any) -> float:
    finite = x[np.isfinite(x)]
    if finite.size == 0 or not finite.any():
        return math.nan
    unit = np.abs(finite).max()
    return float(1 / np.sqrt(np.mean((finite / unit) ** 2)))


__all__ = ["Amplification", "amplifications"]
