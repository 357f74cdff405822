"""What was seen of a model's tensors: histograms by bit pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16

# Sign, exponent and the first bit of the fraction of a bf16 number: what is counted for each channel.
CHANNEL_BITS = 10
_DROPPED = 16 - CHANNEL_BITS


@dataclass(frozen=True)
class Histogram:
    """Counts of one tensor of one layer.

    Attributes:
        patterns: uint64, shape (65536,); how often each bf16 pattern was seen.
        channels: uint64, shape (channels, 1024); the same by the first 10 bits, for each channel.
        amax: float32, shape (channels,); largest finite magnitude of each channel over everything that
            passed, whether counted or only looked at.
        seen, infinite, nan: numbers that passed, counted or only looked at, and how many of them were
            infinite or NaN.
    """

    patterns: NDArray[np.uint64]
    channels: NDArray[np.uint64]
    amax: NDArray[np.float32]
    seen: int = 0
    infinite: int = 0
    nan: int = 0

    def __add__(self, other: Histogram) -> Histogram:
        if self.channels.shape != other.channels.shape:
            raise UsageError(f"channels={other.channels.shape[0]}: expected {self.channels.shape[0]}")
        return Histogram(
            self.patterns + other.patterns,
            self.channels + other.channels,
            np.maximum(self.amax, other.amax),
            self.seen + other.seen,
            self.infinite + other.infinite,
            self.nan + other.nan,
        )

    @property
    def n(self) -> int:
        """Numbers counted."""
        return int(self.patterns.sum())

    @property
    def largest_counted(self) -> float:
        """Largest finite magnitude among the numbers that were counted; 0 where there is none."""
        values = bf16_values()
        return float(np.abs(values[(self.patterns > 0) & np.isfinite(values)]).max(initial=0.0))

    def sample(
        self, tokens: int, rng: np.random.Generator, quantiles: NDArray[np.float64] | None = None
    ) -> NDArray[np.uint16]:
        """bf16 patterns drawn from the histogram, each channel from its own; NaN and infinities left out.

        A channel's coarse pattern is drawn first, then one of the layer's patterns that begin so.

        Args:
            quantiles: in [0, 1), shape (tokens, channels): which coarse pattern, in the order of values;
                drawn when None.

        Returns:
            uint16, shape (tokens, channels).

        Raises:
            ValueError: a channel of which nothing finite was counted.
        """
        finite = np.isfinite(bf16_values())
        weights = np.where(finite, self.patterns, 0).astype(np.float64)
        inner = weights.reshape(-1, 1 << _DROPPED)
        total = np.cumsum(inner, axis=1)
        coarse = np.where(inner.sum(1) > 0, self.channels, 0).astype(np.float64)
        half = coarse.shape[1] // 2
        # Patterns in the order of their values: negative ones, which come last and largest last, reversed.
        order = np.concatenate([np.arange(2 * half)[: half - 1 : -1], np.arange(half)])
        if quantiles is None:
            quantiles = rng.random((tokens, coarse.shape[0]))
        drawn = np.empty((tokens, coarse.shape[0]), np.uint16)
        for j, row in enumerate(coarse):
            if row.sum() == 0:
                raise UsageError(f"channel={j}: nothing finite was captured of it")
            share = np.cumsum(row[order]) / row.sum()
            chosen = order[np.minimum(np.searchsorted(share, quantiles[:, j], "right"), row.size - 1)]
            part = rng.random(tokens) * total[chosen, -1]
            low = (total[chosen] <= part[:, None]).sum(1)
            drawn[:, j] = (chosen << _DROPPED) + np.minimum(low, (1 << _DROPPED) - 1)
        return drawn


def bf16_values() -> NDArray[np.float64]:
    """Of every pattern, in their order."""
    return BF16.decode(BF16.all_bits())


@dataclass(frozen=True)
class Layer:
    """One activation of the model.

    Attributes:
        name: its qualified name in the model.
        module: the class of the module.
        function: the activation's name here; "" where it is not known.
        params: its effective parameters when last seen, where the module tells.
        tensors: histograms by kind: "input", "gate", "gradient".
        moments: float64, shape (6, channels): of input x and gate g, the count and the sums of x, g, x², g²
            and x·g; None without a gate.
        amax: largest finite magnitude of what the next product receives, "stored", and of the gradient that
            goes back from the activation, "returned"; of everything that passed.
        gate_in_gradient: the gradient that was counted holds the gate as a factor already.
        notes: sentences on what could not be counted.
    """

    name: str
    module: str
    function: str
    params: Mapping[str, float]
    tensors: Mapping[str, Histogram]
    moments: NDArray[np.float64] | None = None
    amax: Mapping[str, float] = field(default_factory=dict)
    gate_in_gradient: bool = False
    notes: tuple[str, ...] = ()

    def correlation(self) -> NDArray[np.float64]:
        """Of input and gate, for each channel; 0 where there is none.

        Raises:
            ValueError: the layer has no gate.
        """
        if self.moments is None:
            raise UsageError(f"layer {self.name!r} has no gate")
        n, x, g, xx, gg, xg = self.moments
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (xg - x * g / n) / np.sqrt((xx - x * x / n) * (gg - g * g / n))
        rho: NDArray[np.float64] = np.clip(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), -1, 1)
        return rho

    def sample(
        self, tokens: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
        """bf16 patterns of input and gate, shape (tokens, channels), correlated as they were.

        Each follows its own histogram; a normal copula ties them (a sum over histograms of pairs would not
        be small). Inputs alone where the layer has no gate.

        Raises:
            ValueError: as `Histogram.sample`.
        """
        if "gate" not in self.tensors or self.moments is None:
            return self.tensors["input"].sample(tokens, rng), None
        rho = self.correlation()
        z, e = rng.standard_normal((2, tokens, rho.size))
        first, second = (_normal_cdf(v) for v in (z, rho * z + np.sqrt(1 - rho * rho) * e))
        return self.tensors["input"].sample(tokens, rng, first), self.tensors["gate"].sample(
            tokens, rng, second
        )


@dataclass(frozen=True)
class Product:
    """The input of a matrix product: of one module, or of several that were given the same tensor.

    Attributes:
        name: the qualified name of the module.
        module: its class, or the function that was called.
        input: histogram of what it multiplies by its weight.
        also: other modules that were given this very tensor, as k and v beside q.
        after: the activation whose result it is, with its gate where it has one; "" for none.
        notes: sentences on what could not be counted.
    """

    name: str
    module: str
    input: Histogram
    also: tuple[str, ...] = ()
    after: str = ""
    notes: tuple[str, ...] = ()


def _normal_cdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.vectorize(math.erfc)(-z / math.sqrt(2)) / 2
    return share


__all__ = ["CHANNEL_BITS", "Histogram", "Layer", "Product", "bf16_values"]
