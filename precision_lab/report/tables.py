"""Rows of the report's tables: text and flags, the same for every medium."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from precision_lab.report.rows import label, reduction_case, timing_case
from precision_lab.report.section import Cell
from precision_lab.report.wording import ROOTS, by_key, reason, written
from precision_lab.results import Measurement, Reduction, Results, Statistics, Timing, Witness, replay_command

REGION_TITLES = {
    "positive": "positive",
    "rest_negative": "negative, rest",
    "near_zero_negative": "near 0⁻",
    "eps_zone": "eps zone",
    "zero": "±0",
    "root_forward": "root of f",
    "root_gradient": "root of f′",
    "far_tail": "far tail",
    "subnormal_input": "subnormal x",
    "subnormal_result": "subnormal result",
    "special": "inf, NaN",
}


@dataclass(frozen=True)
class RegionRow:
    case: str
    name: str
    output: str
    params: str
    worst: Cell
    cells: tuple[Cell | None, ...]
    failure: str = ""
    time: str = ""  # of the kernel's calls while it was measured, in ns per element


@dataclass(frozen=True)
class RegionTable:
    """Implementations × regions, of one function in one format."""

    function: str
    fmt: str
    inputs: str
    regions: tuple[str, ...]
    rows: tuple[RegionRow, ...]


@dataclass(frozen=True)
class WitnessRow:
    case: str
    function: str
    fmt: str
    name: str
    output: str
    params: str
    kind: str
    witness: Witness
    command: str


def figure(value: float) -> str:
    """An error in ulps, short enough for a cell."""
    if not math.isfinite(value):
        return "–"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.0f}" if value < 1e4 else f"2^{math.log2(value):.0f}"


def level(max_ulp: float) -> int:
    """How bad: ≤ 0.5 + 2⁻⁷, ≤ 1, ≤ 4, ≤ 64 ulp, beyond."""
    return sum(max_ulp > bound for bound in (0.5078125, 1.001, 4.0, 64.0))


def region_tables(results: Results) -> tuple[RegionTable, ...]:
    """One table per function and format, in the order of the results."""
    tables = []
    for (function, fmt), rows in by_key(results.measurements, "function", "fmt").items():
        regions = tuple(name for name in REGION_TITLES if any(name in m.regions for m in rows))
        inputs = sorted({m.inputs for m in rows if m.n_inputs})
        count = max(m.n_inputs for m in rows)
        words = f"{', '.join(inputs)}, {count:,} inputs per row"
        ordered = sorted(rows, key=_order(rows))
        tables.append(RegionTable(function, fmt, words, regions, tuple(_row(m, regions) for m in ordered)))
    return tuple(tables)


def _order(rows: Iterable[Measurement]) -> Callable[[Measurement], tuple[int, int]]:
    """Sort key: output, then parameter set, then implementation, each in order of first appearance."""
    outputs = list(dict.fromkeys(m.output for m in rows))
    params = list(dict.fromkeys(m.params_name for m in rows))
    params.sort(key=lambda name: name != "init")
    return lambda m: (outputs.index(m.output), params.index(m.params_name))


def _row(m: Measurement, regions: tuple[str, ...]) -> RegionRow:
    flags = ("±" if m.wrong_sign else "") + ("∞" if m.nonfinite_mismatch else "")
    return RegionRow(
        m.case,
        label(m),
        written(m.output),
        m.params_name,
        Cell(figure(m.max_ulp), level(m.max_ulp), flags, _title(m)),
        tuple(_cell(m.regions.get(name)) for name in regions),
        reason(m.failure) if m.failure else "",
        "" if m.time_ns_per_element is None else f"{m.time_ns_per_element:.3g}",
    )


def _title(m: Measurement) -> str:
    return (
        f"{m.not_correctly_rounded:,} of {m.n_inputs:,} not correctly rounded; mean {m.mean_ulp:.3g} ulp"
        + (f"; {m.monotonicity_violations:,} steps against the function" if m.monotonicity_violations else "")
    )


def _cell(s: Statistics | None) -> Cell | None:
    if s is None:
        return None
    flags = ("±" if s.wrong_sign else "") + ("∞" if s.nonfinite_mismatch else "")
    counted = [
        f"{count:,} {words}"
        for count, words in ((s.wrong_sign, "wrong signs"), (s.nonfinite_mismatch, "wrong NaN or infinities"))
        if count
    ]
    title = f"{s.n_inputs:,} inputs" + "".join(f"; {words}" for words in counted)
    return Cell(figure(s.max_ulp), level(s.max_ulp), flags, title)


def witnesses(results: Results) -> tuple[WitnessRow, ...]:
    """For each implementation of each function and format: its worst error, first wrong sign, first NaN."""
    rows: list[WitnessRow] = []
    sound = [m for m in results.measurements if m.failure is None]
    for group in by_key(sound, "function", "fmt", "implementation", "execution").values():
        worst = max(group, key=lambda m: m.max_ulp)
        outside = max(group, key=lambda m: _outside(m).max_ulp if m.regions else 0.0)
        found = [("largest error", worst, worst.witness)]
        if outside.regions and (seen := _outside(outside).witness) and seen != worst.witness:
            found.append(("largest error, roots apart", outside, seen))
        for kind, name in (("wrong sign", "sign_witness"), ("NaN or infinity", "nonfinite_witness")):
            seen_in = next((m for m in group if getattr(m, name) is not None), None)
            if seen_in is not None:
                found.append((kind, seen_in, getattr(seen_in, name)))
        for kind, m, witness in found:
            if witness is not None and (kind != "largest error" or m.max_ulp > 0.5078125):
                command = replay_command(m, witness)
                rows.append(
                    WitnessRow(
                        m.case,
                        m.function,
                        m.fmt,
                        label(m),
                        written(m.output),
                        m.params_name,
                        kind,
                        witness,
                        command,
                    )
                )
    return tuple(rows)


def _outside(m: Measurement) -> Statistics:
    parts = [s for name, s in m.regions.items() if name not in ROOTS]
    return max(parts or list(m.regions.values()), key=lambda s: s.max_ulp)


@dataclass(frozen=True)
class ReductionRow:
    case: str
    first: bool  # the first row of its key, which carries the anchor
    r: Reduction
    name: str
    output: str
    relative: str
    level: int


def reductions(results: Results) -> tuple[ReductionRow, ...]:
    """Rows by function, format, data and output; the least accurate first."""
    rows = sorted(
        results.reductions,
        key=lambda r: (r.function, r.fmt, r.output, r.data, -_finite(r.relative_error)),
    )
    seen: set[str] = set()
    table = []
    for r in rows:
        case = reduction_case(r)
        relative = f"{r.relative_error:.2g}" if math.isfinite(r.relative_error) else "–"
        table.append(
            ReductionRow(
                case, case not in seen, r, label(r), written(r.output), relative, level(abs(r.error_ulps))
            )
        )
        seen.add(case)
    return tuple(table)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


@dataclass(frozen=True)
class TimingRow:
    case: str
    t: Timing
    name: str


def timings(results: Results) -> tuple[TimingRow, ...]:
    """Rows by format and direction, fastest first."""
    formats = list(dict.fromkeys(t.fmt for t in results.timings))
    rows = sorted(
        results.timings, key=lambda t: (formats.index(t.fmt), t.direction != "forward", _finite(t.time_ns))
    )
    return tuple(TimingRow(timing_case(t), t, label(t)) for t in rows)


def tiers(results: Results) -> dict[str, int]:
    """How many results each tier of the oracle settled, over all measurements."""
    totals: dict[str, int] = {}
    for m in results.measurements:
        for name, count in m.escalated.items():
            totals[name] = totals.get(name, 0) + count
    return totals


def parameter_sets(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Function → parameter set → values as the FP32 or widest format received them."""
    sets: dict[str, dict[str, dict[str, float]]] = {}
    for m in results.measurements:
        if m.params:
            sets.setdefault(m.function, {}).setdefault(m.params_name, m.params)
    return sets
