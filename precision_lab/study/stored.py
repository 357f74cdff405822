"""What a study keeps of a measurement: a report holds thousands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from precision_lab.results import SIGNED_FLOATS, Binade, Measurement, Statistics

# Plots walk down to 0⁻ and a little beyond ±1; further binades stay in each Measurement
# but not in a stored study, where they would be most of the file.
STORED_EXPONENTS = range(-40, 9)


def stored(m: Measurement) -> Measurement:
    """A measurement as a study keeps it: the binades that reports draw, six digits in parts.

    A region within one ulp needs no witness; the whole measurement keeps its own.
    """
    kept: tuple[Binade, ...] = ()
    if m.params_name == "init":
        kept = tuple(
            replace(b, statistics=_shortened(b.statistics))
            for b in m.binades
            if b.exponent in STORED_EXPONENTS
        )
    regions = {
        name: replace(_shortened(s), witness=s.witness if s.max_ulp > 1 else None)
        for name, s in m.regions.items()
    }
    return replace(m, binades=kept, regions=regions, environment={})


def _shortened(statistics: Statistics) -> Statistics:
    def short(value: float) -> float:
        return float(f"{value:.6g}")

    known = {name: getattr(statistics, name) for name in SIGNED_FLOATS}
    signed: dict[str, Any] = {name: short(value) for name, value in known.items() if value is not None}

    return replace(
        statistics,
        max_ulp=short(statistics.max_ulp),
        mean_ulp=short(statistics.mean_ulp),
        min_correct_bits=short(statistics.min_correct_bits),
        mean_correct_bits=short(statistics.mean_correct_bits),
        **signed,
    )


__all__ = ["STORED_EXPONENTS", "stored"]
