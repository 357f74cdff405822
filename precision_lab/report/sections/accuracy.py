"""Errors of single results: plots, regions, witnesses, and casts."""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.functions import FUNCTIONS
from precision_lab.report.figures import bits as plotted
from precision_lab.report.rows import anchor
from precision_lab.report.section import (
    Cell,
    Choice,
    Column,
    Control,
    Figure,
    Fold,
    Key,
    Part,
    Prose,
    Row,
    Section,
    Table,
    numeric,
)
from precision_lab.report.series import HeatCell, Line, heat, lines
from precision_lab.report.tables import (
    REGION_TITLES,
    RegionRow,
    RegionTable,
    WitnessRow,
    figure,
    level,
    region_tables,
)
from precision_lab.report.tables import witnesses as witness_rows
from precision_lab.report.wording import reason, written
from precision_lab.results import Conversion, Results
from precision_lab.results.execution import EAGER, labelled

FLAGS = "**±** marks wrong signs, **∞** a NaN or infinity in the wrong place."
LEVELS = ("≤ 0.508: correctly rounded or nearly", "≤ 1", "≤ 4", "≤ 64", "beyond")
EXECUTION_ORDER = ("eager", "upcast", "compiled", "module")  # in columns; others after them
# What many kernels have in common has a column of the map; what is a kernel's own, stands beside its name.
COLUMNS = ("eager", "upcast", "compiled", "fp8-fp32", "fp8-bf16")
FLAG_NOTES = {"±": "sign", "∞": "NaN"}


def bits(results: Results) -> Section | None:
    """Correct bits of the worst input of each binade below zero."""
    found = lines(results)
    names = dict.fromkeys((v.function, v.fmt) for v in found)
    if not names:
        return None
    lead = results.profile.lead
    stills = [
        Figure(f"bits-{function}-{fmt}.svg", f"Correct bits, {function} in {fmt}")
        for function, fmt in names
        if function in lead
    ]
    words = (
        "The worst input of each binade of negative x, for each implementation at the initial parameters. A "
        "line at the top keeps the whole precision of the format; at 0 no digit is right. Sharp dips at "
        "moderate x are roots, where the relative error of working-precision arithmetic has no bound."
    )
    title = "Correct bits on the way to 0⁻"
    return Section("bits", title, [words, _bits_choice(found, lead, stills)], nav="On the way to 0⁻")


def _bits_choice(found: Sequence[Line], lead: Sequence[str], stills: Sequence[Figure]) -> Choice:
    """A plot for each function, format and execution; one by the module stands beside eager ones."""
    by: dict[tuple[str, ...], list[Line]] = {}
    for v in found:
        if v.execution != "module":
            by.setdefault((v.function, v.fmt, v.execution), []).append(v)
    for v in found:
        if v.execution == "module":
            by.setdefault((v.function, v.fmt, "eager"), []).append(v)
    functions, formats, executions = (list(dict.fromkeys(key[at] for key in by)) for at in range(3))
    executions.sort(key=_execution_order)
    functions.sort(key=lambda name: lead.index(name) if name in lead else len(lead))
    formats.sort(key=lambda name: name != "bf16")  # begins with it
    keys = sorted(by, key=lambda k: (functions.index(k[0]), formats.index(k[1]), executions.index(k[2])))
    named = zip(("function", "format", "execution"), (functions, formats, executions), strict=True)
    controls = [Control(f"bits-{name}", name, [(v, v) for v in values]) for name, values in named]
    return Choice(controls, {key: [plotted(by[key])] for key in keys}, stills)


def _execution_order(execution: str) -> int:
    known = execution in EXECUTION_ORDER
    return EXECUTION_ORDER.index(execution) if known else len(EXECUTION_ORDER)


def heat_map(results: Results) -> Section | None:
    """Largest error of each implementation in each format, as a table."""
    cells = heat(results)
    if not cells:
        return None
    lead = results.profile.lead
    leading = ", ".join(FUNCTIONS[name].title if name in FUNCTIONS else name for name in lead)
    groups = {
        "lead": (leading, [c for c in cells if c.function in lead]),
        "others": ("other functions", [c for c in cells if c.function not in lead]),
    }
    groups = {name: group for name, group in groups.items() if group[1]}
    outputs = ["worst", *dict.fromkeys(c.output for c in cells)]
    places = (("outside", "outside the root regions"), ("everywhere", "everywhere"))
    variants: dict[tuple[str, ...], list[Part]] = {}
    for name, (_, mine) in groups.items():
        for output in outputs:
            some = [c for c in mine if output in ("worst", c.output)]
            for place, _ in places:
                if some:
                    variants[name, output, place] = [_map(some, place)]
    controls = [
        Control("heat-group", "functions", [(name, words) for name, (words, _) in groups.items()]),
        Control(
            "heat-output", "output", [(o, "worst of all" if o == "worst" else written(o)) for o in outputs]
        ),
        Control("heat-where", "inputs", places),
    ]
    words = Prose(
        "Largest error over all parameter sets, in ulps; **sign** marks wrong signs, **NaN** a NaN or "
        "infinity in the wrong place.",
        page="Each column is a format and how kernels are run in it; a kernel that is run in its own way has "
        "that in brackets. The inputs themselves are listed as witnesses.",
        digest="Over all outputs, outside the root regions.",
    )
    digest: list[Part] = [
        _map(mine, "outside", digest=name == next(iter(groups))) for name, (_, mine) in groups.items()
    ]
    parts: list[Part] = [words, Key(list(enumerate(LEVELS))), Choice(controls, variants, digest)]
    return Section("map", "Every implementation in every format", parts, nav="Map", opening=True)


def _map(cells: Sequence[HeatCell], place: str, *, digest: bool = True) -> Table:
    """Implementations × formats and executions."""
    worst: dict[tuple[tuple[str, str], tuple[str, str]], tuple[float, HeatCell]] = {}
    flags: dict[tuple[tuple[str, str], tuple[str, str]], str] = {}
    kernels = list(dict.fromkeys((c.function, c.implementation) for c in cells))
    places: dict[
        tuple[str, str], tuple[int, bool]
    ] = {}  # a kernel's own ways of running follow the common ones
    for c in cells:
        common = c.execution.split(" ")[0] in COLUMNS
        key = (
            (c.function, c.implementation if common else labelled(c.implementation, c.execution)),
            (c.fmt, c.execution if common else EAGER.name),
        )
        places[key[0]] = (kernels.index((c.function, c.implementation)), not common)
        error = c.outside_roots if place == "outside" else c.everywhere
        flags[key] = "".join(f for f in FLAG_NOTES if f in flags.get(key, "") + c.flags)
        if key not in worst or error > worst[key][0]:
            worst[key] = (error, c)
    rows = sorted(places, key=lambda row: places[row])
    formats = list(dict.fromkeys(column[0] for _, column in worst))
    columns = sorted(
        dict.fromkeys(column for _, column in worst),
        key=lambda c: (formats.index(c[0]), _execution_order(c[1])),
    )
    heads: list[str | Column] = ["implementation", *numeric(*(f"{fmt} {how}" for fmt, how in columns))]
    made = []
    for row in rows:
        shown: list[str | Cell] = [" ".join(row)]
        for column in columns:
            if (row, column) not in worst:
                shown.append("")
                continue
            error, c = worst[row, column]
            note = ", ".join(FLAG_NOTES[flag] for flag in flags[row, column])
            shown.append(Cell(figure(error), level(error), title=c.text, note=note))
        made.append(Row(shown, digest=digest))
    return Table(heads, made, dense=True)


def regions(results: Results) -> Section | None:
    """A table of each function in each format: implementations and regions."""
    tables = region_tables(results)
    if not tables:
        return None
    lead = results.profile.lead
    parts: list[Part] = [
        Prose(f"In ulps. {FLAGS}", page="Point at a cell for counts."),
        Key(list(enumerate(LEVELS))),
    ]
    for leads in (True, False):
        mine = [_region_table(t) for t in tables if (t.function in lead) == leads]
        parts += mine if leads or len(parts) == 2 else [Fold(f"{len(mine)} tables of other functions", mine)]
    about = "every implementation at every parameter set, region by region"
    return Section("regions", "Largest error by region", parts, nav="Regions", about=about)


def _region_table(t: RegionTable) -> Table:
    columns: list[str | Column] = ["implementation", "output", "parameters"]
    columns += numeric("worst", *(REGION_TITLES[name] for name in t.regions))
    timed = any(row.time for row in t.rows)
    columns += numeric("time", unit="ns per element") if timed else []
    rows = [_region_row(row, timed=timed) for row in t.rows]
    return Table(columns, rows, folded=f"{t.function} in {t.fmt}", note=t.inputs)


def _region_row(row: RegionRow, *, timed: bool) -> Row:
    figures: list[str | Cell] = [row.worst, *(cell or "" for cell in row.cells)]
    figures += [row.time] if timed else []
    if row.failure:
        figures = [Cell(row.failure, span=len(figures))]
    return Row([row.name, row.output, row.params, *figures], anchor(row.case))


def witnesses(results: Results) -> Section | None:
    """Inputs at which errors were seen."""
    rows = witness_rows(results)
    if not rows:
        return None
    columns: list[str | Column] = ["function", "format", "implementation", "output", "parameters", "what"]
    columns += [Column("bits"), *numeric("x", "computed"), Column("exact"), *numeric("error", unit="ulp")]
    columns.append("replay")
    words = (
        "For each implementation and format, the input at which the error was seen. Run the command to see "
        "it again."
    )
    table = Table(columns, [_witness_row(row) for row in rows], split="witnesses")
    return Section("witnesses", "Witnesses", [words, table])


def _witness_row(w: WitnessRow) -> Row:
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
        seen.exact,
        f"{seen.error_ulps:.4g}",
        Cell(w.command, code=True),
    ]
    return Row(cells)


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
