"""Errors of single results: plots, regions, witnesses, and casts."""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.report.rows import anchor
from precision_lab.report.section import (
    Cell,
    Column,
    Control,
    Figure,
    Fold,
    Key,
    Part,
    Plot,
    Prose,
    Row,
    Section,
    Table,
    numeric,
)
from precision_lab.report.series import PLOTTED_OUTPUTS, heat, lines
from precision_lab.report.tables import (
    REGION_TITLES,
    RegionRow,
    RegionTable,
    WitnessRow,
    region_tables,
)
from precision_lab.report.tables import witnesses as witness_rows
from precision_lab.report.wording import reason
from precision_lab.results import Conversion, Results

FLAGS = "**±** marks wrong signs, **∞** a NaN or infinity in the wrong place."
LEVELS = ("≤ 0.508: correctly rounded or nearly", "≤ 1", "≤ 4", "≤ 64", "beyond")
DIGEST_OUTPUTS = ("forward", "d/dx", "d/dalpha_p", "d/dalpha_n")


def bits(results: Results) -> Section | None:
    """Correct bits of the worst input of each binade below zero."""
    names = dict.fromkeys((v.function, v.fmt) for v in lines(results))
    if not names:
        return None
    stills = [
        Figure(f"bits-{function}-{fmt}.svg", f"Correct bits, {function} in {fmt}")
        for function, fmt in names
        if function in results.profile.lead
    ]
    words = Prose(
        "The worst input of each binade of negative x, for each implementation at the initial parameters. A "
        "line at the top keeps the whole precision of the format; at 0 no digit is right. Sharp dips at "
        "moderate x are roots, where the relative error of working-precision arithmetic has no bound.",
        page="Drag to zoom, double-click to go back.",
    )
    controls = [Control(f"bits-{name}", name) for name in ("function", "format", "execution")]
    plot = Plot(controls, [f"bits-{output}" for output in PLOTTED_OUTPUTS], stills, "bits-legend")
    title = "Correct bits on the way to 0⁻"
    return Section("bits", title, [words, plot], nav="On the way to 0⁻")


def heat_map(results: Results) -> Section | None:
    """Largest error of each implementation in each format."""
    if not heat(results):
        return None
    words = Prose(
        f"Largest error over all parameter sets, in ulps. {FLAGS}",
        page="Point at a cell for its worst input.",
        digest="Over all outputs, outside the root regions.",
    )
    places = (("outside", "outside the root regions"), ("everywhere", "everywhere"))
    controls = [
        Control("heat-group", "functions"),
        Control("heat-output", "output"),
        Control("heat-where", "inputs", places),
    ]
    stills = [Figure(name, "Largest error of every implementation") for name in ("map.svg", "map-others.svg")]
    title = "Every implementation in every format"
    return Section("map", title, [words, Plot(controls, ["heat"], stills)], nav="Map")


def regions(results: Results) -> Section | None:
    """A table of each function in each format: implementations and regions."""
    tables = region_tables(results)
    if not tables:
        return None
    lead = results.profile.lead
    first = [_region_table(t, leads=True) for t in tables if t.function in lead]
    rest: list[Part] = [_region_table(t, leads=False) for t in tables if t.function not in lead]
    words = Prose(
        f"In ulps. {FLAGS}",
        page="Point at a cell for counts.",
        digest="At the initial parameters, of the lab's two functions; `report.html` has every function and "
        "parameter set.",
    )
    if first and rest:
        rest = [Fold(f"{len(rest)} tables of other functions", rest)]
    parts = [words, Key(list(enumerate(LEVELS))), *first, *rest]
    return Section("regions", "Largest error by region", parts, nav="Regions")


def _region_table(t: RegionTable, *, leads: bool) -> Table:
    columns: list[str | Column] = ["implementation", "output", Column("parameters", digest=False)]
    columns += numeric("worst", *(REGION_TITLES[name] for name in t.regions))
    timed = any(row.time for row in t.rows)
    columns += numeric("time", unit="ns per element") if timed else []
    rows = [_region_row(row, leads, timed=timed) for row in t.rows]
    return Table(columns, rows, folded=f"{t.function} in {t.fmt}", note=t.inputs)


def _region_row(row: RegionRow, leads: bool, *, timed: bool) -> Row:
    figures: list[str | Cell] = [row.worst, *(cell or "" for cell in row.cells)]
    figures += [row.time] if timed else []
    if row.failure:
        figures = [Cell(row.failure, span=len(figures))]
    short = leads and row.params == "init" and row.output in DIGEST_OUTPUTS and not row.failure
    return Row([row.name, row.output, row.params, *figures], anchor(row.case), digest=short)


def witnesses(results: Results) -> Section | None:
    """Inputs at which errors were seen."""
    rows = witness_rows(results)
    if not rows:
        return None
    columns: list[str | Column] = ["function", "format", "implementation", "output", "parameters", "what"]
    columns += [Column("bits"), *numeric("x", "computed"), Column("exact"), *numeric("error", unit="ulp")]
    columns.append(Column("replay", digest=False))
    words = Prose(
        page="For each implementation and format, the input at which the error was seen. Run the command to "
        "see it again.",
        digest="The input at which an eager implementation of xIELU or xIPReLU is furthest off; "
        "`precision-lab explain FUNCTION --bits BITS --format FORMAT --output OUTPUT` shows it again at the "
        "initial parameters.",
    )
    table = Table(columns, [_witness_row(row, results.profile.lead) for row in rows], split="witnesses")
    return Section("witnesses", "Witnesses", [words, table])


def _witness_row(w: WitnessRow, lead: Sequence[str]) -> Row:
    seen = w.witness
    cells: list[str | Cell] = [
        w.function,
        w.fmt,
        Cell(w.name, link=anchor(w.case)),
        w.output,
        w.params,
        w.kind,
        Cell(seen.bits, code=True),
        Cell(f"{seen.x:.6g}", title=seen.x_hex),
        Cell(f"{seen.computed:.6g}", title=f"{seen.computed_hex}, bits {seen.computed_bits}"),
        Cell(seen.exact, digest=seen.exact[:14]),
        f"{seen.error_ulps:.4g}",
        Cell(w.command, code=True),
    ]
    short = w.function in lead and "[" not in w.name and w.kind != "largest error"
    return Row(cells, digest=short)


def conversions(results: Results) -> Section | None:
    """Casts of every number of a format to a narrower one."""
    if not results.conversions:
        return None
    words = (
        "Every bf16 number cast to FP8, against rounding to nearest, ties to even; what lies beyond the "
        "range is named, not judged."
    )
    columns: list[str | Column] = ["cast", "device", "to", *numeric("misrounded"), "overflow", "±inf", "NaN"]
    table = Table(columns, [*map(_conversion_row, results.conversions)])
    return Section("conversions", "Casts to FP8", [words, table])


def _conversion_row(c: Conversion) -> Row:
    if c.failure:
        return Row([c.name, c.device, c.target, Cell(reason(c.failure), span=4)])
    seen = f" ({c.witness})" if c.witness else ""
    wrong = Cell(f"{c.misrounded} of {c.n_inputs}{seen}", level=4 if c.misrounded else 0)
    return Row([c.name, c.device, c.target, wrong, c.overflow, c.infinity, c.nan])


__all__ = ["bits", "conversions", "heat_map", "regions", "witnesses"]
