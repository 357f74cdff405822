"""Modelled pre-activations, for those who have none captured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import UsageError, unknown_name

Float64 = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Float64]


def _outliers(rng: np.random.Generator, shape: tuple[int, int]) -> Float64:
    """Normal, but every 64th channel thirty times as large: what aligned weight columns come to.

    Source: Fishman et al., arXiv 2409.12517, section 4: single channels grow until they dominate.
    """
    x = rng.standard_normal(shape)
    x[:, ::64] *= 30.0
    return x


def _growing(rng: np.random.Generator, shape: tuple[int, int]) -> Float64:
    """Normal, its scale growing along the tokens from 1 to 8: a run whose activations are not steady."""
    x: Float64 = rng.standard_normal(shape) * np.exp2(np.linspace(0, 3, shape[0]))[:, None]
    return x


# Each has variance 1 where it has one, before the scale; a new one is a line here.
DISTRIBUTIONS: dict[str, tuple[str, Draw]] = {
    "normal": ("normal", lambda rng, shape: rng.standard_normal(shape)),
    "laplace": ("Laplace", lambda rng, shape: rng.laplace(0.0, 0.5**0.5, shape)),
    "student-t": ("Student's t, 3 degrees of freedom", lambda rng, shape: rng.standard_t(3, shape) / 3**0.5),
    "outliers": ("normal, every 64th channel 30 times as large", _outliers),
    "growing": ("normal, growing eightfold over the tokens", _growing),
}


def modelled(
    name: str = "normal", tokens: int = 512, channels: int = 512, *, scale: float = 1.0, seed: int = 0
) -> Tensor:
    """bfloat16 pre-activations of a named distribution, shape (tokens, channels); the same for the same seed.

    Raises:
        ValueError: no such distribution; a size below 1; a scale that is not positive and finite, or
            overflows BF16.
    """
    if name not in DISTRIBUTIONS:
        raise unknown_name("distribution", name, DISTRIBUTIONS)
    if tokens < 1 or channels < 1:
        raise UsageError(f"tokens={tokens!r}, channels={channels!r}: at least 1 each")
    if not 0 < scale < np.inf:
        raise UsageError(f"scale={scale!r}: must be positive and finite")
    with np.errstate(over="ignore"):
        x = (DISTRIBUTIONS[name][1](np.random.default_rng(seed), (tokens, channels)) * scale).astype(
            np.float32
        )
    found = torch.from_numpy(x).bfloat16()
    if not found.isfinite().all():
        raise UsageError(f"scale={scale!r}: pre-activations of distribution {name!r} overflow BF16")
    return found


__all__ = ["DISTRIBUTIONS", "modelled"]
