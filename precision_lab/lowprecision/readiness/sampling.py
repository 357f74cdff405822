"""How sure a number is that was computed from a sample of a tensor's rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from precision_lab.lowprecision.readiness.passage import Passage

Float64 = NDArray[np.float64]
GROUPS = 8


def by_group(passage: Passage) -> tuple[Float64, Float64, Float64, Float64]:
    """Σ(stored − exact)², Σ exact², Σ(stored − exact)·exact and clipped values by group of rows and channel.

    Each channel in units of its largest magnitude; values that are not finite count as 0, and what was stored
    of a finite one as wholly lost where it is not finite. Row i is in group i mod 8.

    Returns:
        four arrays, shape (groups, channels).
    """
    finite = np.isfinite(passage.exact)
    exact = np.where(finite, passage.exact, 0)
    unit = np.abs(exact).max(0, initial=0)
    unit = np.where(unit > 0, unit, 1)
    e = exact / unit
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(finite, passage.stored, 0) / unit - e
    error = np.where(np.isfinite(error), error, -e)
    clipped = (passage.clipped & finite).astype(np.float64)
    groups = min(GROUPS, max(e.shape[0], 1))
    parts = [
        np.stack([values[k::groups].sum(0) for k in range(groups)])
        for values in (error * error, e * e, error * e, clipped)
    ]
    return parts[0], parts[1], parts[2], parts[3]


def jackknife(statistic: Callable[..., float], *groups: Float64) -> float:
    """Standard error of a statistic of sums over rows, by leaving each group of rows out; 0 of one group.

    Source: Tukey's delete-a-group jackknife, √((g − 1)/g · Σ(θ₋ₖ − mean θ₋)²).
    """
    count = groups[0].shape[0]
    if count < 2:
        return 0.0
    totals = [g.sum(0) for g in groups]
    left = np.array(
        [statistic(*(t - g[k] for t, g in zip(totals, groups, strict=True))) for k in range(count)]
    )
    return math.sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))


def noise_of(noise: Float64, power: Float64) -> float:
    """Root mean square over channels of their relative noise, each counted as at most 1; 0 without any."""
    used = power > 0
    if not used.any():
        return 0.0
    return math.sqrt(float(np.minimum(noise[used] / power[used], 1).mean()))


def bias_of(product: Float64, power: Float64) -> float:
    """Mean over channels of Σ(stored − exact)·exact/Σ exact²: by which share what is stored is too large.

    A tensor that lost everything has −1; 0 without any channel.
    """
    used = power > 0
    return float(np.clip(product[used] / power[used], -1, 1).mean()) if used.any() else 0.0


def noise_error(noise: Float64, power: Float64, *, drawn_channels: bool) -> float:
    """Standard error of `noise_of`, from its rows and, where they were drawn too, its channels.

    Args:
        noise, power: as `by_group` gives them.
    """
    rows = jackknife(noise_of, noise, power)
    totals, powers = noise.sum(0), power.sum(0)
    value, used = noise_of(totals, powers), powers > 0
    if not drawn_channels or value == 0:
        return rows
    ratios = np.minimum(totals[used] / powers[used], 1)
    # d√m = dm/(2√m) of the mean m over channels.
    return math.hypot(rows, float(ratios.std()) / math.sqrt(ratios.size) / (2 * value))


def bias_error(product: Float64, power: Float64) -> float:
    """Standard error of `bias_of`, from its rows and its channels.

    The errors of neighbouring rows and channels are those of rounding and as good as independent; those of
    channels differ besides.
    """
    totals, powers = product.sum(0), power.sum(0)
    used = powers > 0
    if not used.any():
        return 0.0
    channels = np.clip(totals[used] / powers[used], -1, 1)
    return math.hypot(jackknife(bias_of, product, power), float(channels.std()) / math.sqrt(channels.size))


def share_error(clipped: Float64, values: int) -> float:
    """Standard error of a share of all values, from groups of rows."""
    per_group = clipped.sum(1) / max(values / clipped.shape[0], 1)
    return float(per_group.std(ddof=1)) / math.sqrt(per_group.size) if per_group.size > 1 else 0.0


__all__ = ["bias_error", "bias_of", "by_group", "jackknife", "noise_error", "noise_of", "share_error"]
