"""How much of a tensor survives its storage: pure functions of exact and stored values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """What storage did to one tensor, or to one channel of it.

    Shares are of the finite exact values; NaN where there is nothing to take a share of.

    Attributes:
        n: finite exact values.
        not_finite: exact values that are NaN or infinite; in nothing else here.
        amax: largest exact magnitude.
        kurtosis: fourth central moment over the squared variance of the exact values; 3 for a normal
            distribution.
        underflow: share of nonzero values stored as zero.
        overflow: share stored as a smaller number than any they could be rounded to, or as infinity or
            NaN: clipped.
        signs_lost: share of nonzero values whose stored sign is another one, or zero.
        sqnr_db: signal-to-quantisation-noise ratio, 10·log₁₀(Σ exact² / Σ (stored − exact)²), in dB;
            −inf where something stored is not finite.
        mean_bias: mean of (stored − exact) over the root mean square of the exact values.
        binades: log₂ of the largest magnitude over the smallest nonzero one, of the exact values.
        range_used: the binades of the nonzero codes as a share of those the format has.
    """

    n: int
    not_finite: int
    amax: float
    kurtosis: float
    underflow: float
    overflow: float
    signs_lost: float
    sqnr_db: float
    mean_bias: float
    binades: float
    range_used: float

    @property
    def effective_bits(self) -> float:
        """Bits of a uniform quantiser of a full-scale sine with the same ratio, (SQNR − 1.76)/6.02.

        Source: IEEE Std 1241-2010, effective number of bits.
        """
        return (self.sqnr_db - 1.76) / 6.02


def quality(
    exact: Float64,
    stored: Float64,
    elements: Float64,
    clipped: NDArray[np.bool_],
    format_binades: float,
    weights: Float64 | None = None,
) -> Quality:
    """Quality of a tensor's storage.

    Args:
        exact: any shape.
        stored: what the stored codes mean, the shape of exact.
        elements: what they mean before they are scaled back, the shape of exact.
        clipped: where the cast met a value beyond its largest number, the shape of exact.
        format_binades: log₂ of the format's largest number over its smallest.
        weights: how often each value occurs, the shape of exact and positive; once when None.
    """
    finite = np.isfinite(exact)
    often = np.ones(exact.shape) if weights is None else weights
    e, s, over = exact[finite], stored[finite], clipped[finite] | ~np.isfinite(stored[finite])
    w, not_finite = often[finite], int(often[~finite].sum())
    total = float(w.sum())
    if e.size == 0:
        nan = math.nan
        return Quality(0, not_finite, nan, nan, nan, nan, nan, nan, nan, nan, nan)

    def mean(values: NDArray[Any]) -> float:
        return float(np.sum(w * values)) / total

    magnitude = np.abs(e)
    amax = float(magnitude.max())
    # In units of the largest magnitude no power over- or underflows to harm.
    unit = amax if amax > 0 else 1.0
    scaled, nonzero = e / unit, e != 0
    centred = scaled - mean(scaled)
    variance, power = mean(centred**2), mean(scaled**2)
    with np.errstate(invalid="ignore", over="ignore"):
        error = s / unit - scaled
        noise = mean(error**2)
        bias = mean(error) / math.sqrt(power) if power > 0 else math.nan
    if not math.isfinite(noise):
        sqnr = -math.inf
    elif noise == 0:
        sqnr = math.inf
    else:
        sqnr = 10 * math.log10(power / noise) if power > 0 else -math.inf
    codes = elements[finite]
    kept = np.abs(codes[np.isfinite(codes) & (codes != 0)])
    used = (math.log2(kept.max()) - math.log2(kept.min())) / format_binades if kept.size else 0.0
    count = float(w[nonzero].sum()) or 1.0
    return Quality(
        n=int(total),
        not_finite=not_finite,
        amax=amax,
        kurtosis=mean(centred**4) / variance**2 if variance > 0 else math.nan,
        underflow=float(w[nonzero & (s == 0)].sum()) / count,
        overflow=mean(over),
        signs_lost=float(w[nonzero & ~(np.sign(s) == np.sign(e))].sum()) / count,
        sqnr_db=sqnr,
        mean_bias=bias,
        binades=math.log2(amax) - math.log2(magnitude[nonzero].min()) if nonzero.any() else 0.0,
        range_used=used,
    )
