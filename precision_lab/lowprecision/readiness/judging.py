"""From numbers to a state: ready, at the limit, not ready.

**The limit of the noise.** A number of p significant bits that is rounded to nearest is off by up to half of
its spacing, 2^(1−p) of its binade: evenly spread, a mean square of 2^(2−2p)/12, against a mean square of
3/(2·ln 2) of numbers spread evenly by their logarithm over the binade. So rounding costs every tensor
2^(1−p)·√(ln 2/18) of itself: 2.5 % in E4M3, 4.9 % in E5M2, 9.8 % in E2M1; stochastic rounding √2 times as
much, for its mean square is spacing²/6. Scales of blocks change that by a tenth or so and no more (a test).
The limit is the larger of 10 %, which is twice what the coarser of the FP8 formats costs every tensor, and
twice what the format at hand costs. Beyond it, most of the noise is the tensor's fault.

**The limit of the bias.** Noise of single elements averages out over a batch, a bias does not: it scales a
channel's gradient. 2 % is what noise of 10 % comes to over 25 tokens, and a change of the learning rate finer
than anybody tunes it. Stochastic rounding has none but where the largest number of a block saturates.

**The width of a limit.** A number is beyond, or within, only if it is by more than its uncertainty: three
standard errors of its sampling, which `risk.numbers` estimates from the rows and channels it was drawn
from, and one standard deviation of the prediction itself, `SPREAD`. Models that differ by their seed alone,
trained and captured alike, have numbers with a relative standard deviation of 14 % (the activation) and 9 %
(the gradient), 12 % together (root mean squares, `docs/examples/readiness_spread.py`); it is 0.5 to 2.5 %
where the noise is rounding's own, and 7 to 31 % where it is the tensor's, so that it is taken of what lies
beyond rounding's own. One, and not three: the verdict is on this model. What lies between is at the limit,
and not called either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from precision_lab.formats import FloatFormat

READY, AT_LIMIT, NOT = "ready", "at the limit", "not ready"
NOT_EXAMINED = "not examined"
_ORDER = (READY, AT_LIMIT, NOT)

NOISE_LIMIT = 0.10  # of either tensor's channels
MARGIN = 2  # times what rounding costs every tensor
CLIPPED_LIMIT = 1e-3
BIAS_LIMIT = 0.02
SPREAD = 0.12
STANDARD_ERRORS = 3

ACTIVATION, GRADIENT = "noise of the stored activation", "noise of the stored gradient"
BIAS, CLIPPED, INPUT = "bias of the stored gradient", "share clipped", "noise of the stored input"


def rounding_noise(fmt: FloatFormat, *, stochastic: bool = False) -> float:
    """What rounding to that many bits costs any tensor: root mean square error relative to its own size."""
    nearest = 2.0 ** (1 - fmt.precision) * math.sqrt(math.log(2) / 18)
    return nearest * math.sqrt(2) if stochastic else nearest


def noise_limit(fmt: FloatFormat, *, stochastic: bool = False) -> float:
    """The most noise that a tensor may have in that format."""
    return max(NOISE_LIMIT, MARGIN * rounding_noise(fmt, stochastic=stochastic))


@dataclass(frozen=True)
class Figure:
    """One deciding number of one layer.

    Attributes:
        what: which number.
        layer: where.
        value: the number, not negative; NaN where there was nothing finite to judge by.
        error: standard error of its sampling.
        limit: the most it may be.
        rounding: what rounding costs every tensor, where the number is a noise.
    """

    what: str
    layer: str
    value: float
    error: float
    limit: float
    rounding: float = 0.0

    @property
    def width(self) -> float:
        """How far from its limit a number has to be to be called."""
        own = math.sqrt(max(self.value**2 - self.rounding**2, 0.0))
        return math.hypot(STANDARD_ERRORS * self.error, SPREAD * own)

    @property
    def state(self) -> str:
        """Ready, at the limit, or not ready."""
        if self.value + self.width <= self.limit:
            return READY
        return AT_LIMIT if self.value - self.width <= self.limit else NOT


def worst_state(figures: Sequence[Figure]) -> str:
    """The worst of all figures' states; ready without any."""
    return max((f.state for f in figures), key=_ORDER.index, default=READY)


def reasons(figures: Sequence[Figure]) -> list[str]:
    """A sentence for each number that is not within its limit: where it is worst, and in how many layers."""
    said = []
    for what in dict.fromkeys(f.what for f in figures):
        mine = [f for f in figures if f.what == what]
        empty = [f.layer for f in mine if math.isnan(f.value)]
        if empty:
            said.append(f"{what}: nothing finite to judge by in {', '.join(empty)}")
        for state, words in ((NOT, "over"), (AT_LIMIT, "at")):
            found = [f for f in mine if f.state == state and not math.isnan(f.value)]
            if found:
                worst = max(found, key=lambda f: f.value / f.limit)
                width = f" ± {worst.width:.2%}" if state == AT_LIMIT else ""
                said.append(
                    f"{what} {worst.value:.2%}{width} in {worst.layer} ({len(found)} of {len(mine)} {words} "
                    f"{worst.limit:.1%})"
                )
    return said


__all__ = [
    "ACTIVATION", "AT_LIMIT", "BIAS", "BIAS_LIMIT", "CLIPPED", "CLIPPED_LIMIT", "GRADIENT", "INPUT",
    "NOISE_LIMIT", "NOT", "NOT_EXAMINED", "READY", "Figure", "noise_limit", "reasons", "rounding_noise",
    "worst_state",
]  # fmt: skip
