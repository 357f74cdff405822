"""Findings about faults: what the clamp does, where NaN comes from, where formulations break."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.report.rows import label
from precision_lab.report.wording import (
    ROOTS,
    SAFE_ULPS,
    Finding,
    by_key,
    cases,
    listed,
    precision,
    shown,
    ulps,
    who,
    written,
)
from precision_lab.results import Measurement, Witness
from precision_lab.results.execution import EAGER
from precision_lab.results.regions import REGION_WORDS

AT_INFINITY = "a wrong limit at infinite x, right for all finite x"


def eps_clamp(sound: list[Measurement]) -> Iterator[Finding]:
    """Does clamping at −eps turn the gradient's sign, and shift f(0)."""
    clamped = [m for m in sound if m.implementation.startswith("eps-") and m.execution == EAGER.name]
    for (function,), rows in by_key(clamped, "function").items():
        zone = [m for m in rows if m.output == "grad_x" and "eps_zone" in m.regions]
        flipped = [m for m in zone if m.regions["eps_zone"].wrong_sign]
        if flipped:
            witness = flipped[0].regions["eps_zone"].witness or flipped[0].sign_witness
            yield Finding(
                "eps",
                "fault",
                f"{function}: clamping x at −1e-6 inside the exponential gives d/dx the wrong sign in "
                f"−1e-6 < x < 0 ({listed(label(m) for m in flipped)}).",
                cases(flipped),
                shown(flipped[0], witness),
                tuple(
                    f"{fmt}, {params}: {_most(m.regions['eps_zone'].wrong_sign for m in group)} of "
                    f"{_most(m.regions['eps_zone'].n_inputs for m in group)} inputs"
                    for (fmt, params), group in by_key(flipped, "fmt", "params_name").items()
                ),
            )
        elif zone:
            yield Finding(
                "eps",
                "good",
                f"{function}: clamping x at −1e-6 turns no sign of d/dx in −1e-6 < x < 0.",
                cases(zone),
            )
        jumps = [m for m in rows if m.output == "forward" and m.jump_at_zero > 0]
        if jumps:
            yield Finding(
                "eps",
                "caution",
                f"{function}: clamping x at −1e-6 makes the computed function jump at 0, where the exact one "
                f"is continuous ({listed(label(m) for m in jumps)}).",
                cases(jumps),
                details=tuple(
                    f"{fmt}: by up to {max(m.jump_at_zero for m in group):.2g}"
                    for (fmt,), group in by_key(jumps, "fmt").items()
                ),
            )


def _most(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def nonfinite(sound: list[Measurement]) -> Iterator[Finding]:
    """NaN from the branch not taken, and overflow before the result does, read off the witnesses.

    FP8 has its own finding: there a missing infinity is a matter of saturation.
    """
    rows = [m for m in sound if m.nonfinite_witness is not None and m.fmt != "e4m3"]
    for (function,), members in by_key(rows, "function").items():
        for kind, group in _kinds(members).items():
            first = min(group, key=lambda m: _size(m.nonfinite_witness))
            names = listed(m.implementation for m in group)
            yield Finding(
                "nonfinite",
                "caution" if kind == AT_INFINITY else "fault",
                f"{function}: {kind} ({listed(written(m.output) for m in group)}), from {names}.",
                cases(group),
                shown(first, first.nonfinite_witness),
                tuple(_onset(fmt, part) for (fmt,), part in by_key(group, "fmt").items()),
            )


def _onset(fmt: str, group: list[Measurement]) -> str:
    """Who fails in one format, on how many inputs, and the input of smallest magnitude."""
    first = min(group, key=lambda m: _size(m.nonfinite_witness))
    names = who((m.implementation, m.execution) for m in group)
    seen = first.nonfinite_witness
    where = f" (nearest to 0: x = {seen.x:.6g}, {written(first.output)}, {first.params_name})" if seen else ""
    return f"{fmt}: {names}, {_most(m.nonfinite_mismatch for m in group)} inputs{where}"


def _kinds(group: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    kinds: dict[str, list[Measurement]] = {}
    for m in group:
        seen = m.nonfinite_witness
        if seen is None:
            continue
        if math.isinf(seen.x):
            kind = AT_INFINITY
        elif math.isnan(seen.computed):
            kind = "NaN for finite x"
        elif math.isinf(seen.computed):
            kind = "infinity where the exact result is finite"
        else:
            kind = "a number where the exact result overflows"
        kinds.setdefault(kind, []).append(m)
    return kinds


def _size(witness: Witness | None) -> float:
    if witness is None or math.isnan(witness.x):
        return math.inf
    return abs(witness.x)


def breaks(sound: list[Measurement]) -> Iterator[Finding]:
    """Where each eager formulation loses most outside the roots."""
    rows = [m for m in sound if m.execution == EAGER.name and m.params_name == "init"]
    for (function, name), everything in by_key(rows, "function", "implementation").items():
        details: list[str] = []
        cited: list[tuple[float, Measurement, Witness | None]] = []
        for (fmt,), group in by_key(everything, "fmt").items():
            parts = [
                (s.max_ulp, m, region)
                for m in group
                for region, s in m.regions.items()
                if region not in ROOTS and s.max_ulp > SAFE_ULPS + CERTIFIED_ULPS
            ]
            if not parts:
                continue
            error, m, region = max(parts, key=lambda part: part[0])
            statistics = m.regions[region]
            lost = max(0.0, precision(m) - statistics.min_correct_bits)
            at = f", at x = {statistics.witness.x:.6g}" if statistics.witness else ""
            details.append(
                f"{fmt}: {ulps(error)} in {written(m.output)} {REGION_WORDS.get(region, region)}{at}; "
                f"{lost:.0f} of {precision(m):.0f} bits lost there at worst"
            )
            cited.append((error, m, statistics.witness))
        if not details:
            continue
        error, m, witness = max(cited, key=lambda row: row[0])
        yield Finding(
            "breaks",
            "caution" if error < 16 else "fault",
            f"{function}, {name}: up to {ulps(error)} outside the root regions, at the initial parameters.",
            cases(row[1] for row in cited),
            shown(m, witness),
            tuple(details),
        )
