"""What training and time see: summed gradients, timings, and a block of a model."""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.report.figures import UNITS, timed, times
from precision_lab.report.numbers import ratio
from precision_lab.report.rows import anchor
from precision_lab.report.section import (
    Cell,
    Choice,
    Column,
    Control,
    Drawn,
    Figure,
    Part,
    Row,
    Section,
    Table,
    numeric,
)
from precision_lab.report.tables import ReductionRow, TimingRow
from precision_lab.report.tables import reductions as reduction_rows
from precision_lab.report.tables import timings as timing_rows
from precision_lab.report.wording import reason
from precision_lab.results import Block, Results


def reductions(results: Results) -> Section | None:
    """A parameter's gradient, summed over a tensor."""
    rows = reduction_rows(results)
    if not rows:
        return None
    words = (
        "What the optimiser receives: the parameter's gradient summed over a tensor, against the exactly "
        "rounded sum. The condition number of the sum, Σ|terms| / |Σ terms|, says how much of the error the "
        "data alone would amplify."
    )
    columns: list[str | Column] = ["function", "format", "implementation", "output", "data"]
    columns += numeric("condition", "computed", "exact") + numeric("error", unit="ulp")
    columns += numeric("relative error")
    table = Table(columns, [_reduction_row(row) for row in rows], split="sums")
    return Section("reductions", "Summed parameter gradients", [words, table], nav="Summed gradients")


def _reduction_row(row: ReductionRow) -> Row:
    r = row.r
    figures: list[str | Cell] = [
        f"{r.condition:.3g}",
        f"{r.computed:.6g}",
        f"{r.exact:.6g}",
        Cell(f"{r.error_ulps:.3g}", row.level),
        row.relative,
    ]
    if r.failure:
        figures = [Cell(reason(r.failure), span=5)]
    data = Cell(r.data.split(":")[0], title=r.data)
    return Row(
        [r.function, r.fmt, row.name, row.output, data, *figures], anchor(row.case) if row.first else ""
    )


def timings(results: Results) -> Section | None:
    """Time per element, and its ratios in the same run."""
    rows = timing_rows(results)
    if not rows:
        return None
    shares = any(t.bandwidth_share is not None for t in results.timings)
    text = (
        "Median time per element on this machine, and the same as a ratio to torch's SiLU and to a plain "
        "copy timed in the same run. They compare formulations on this "
        + (
            "GPU; a share of the copy's bandwidth near 100 % means that memory is the limit."
            if shares
            else "processor; they say nothing about a GPU."
        )
    )
    directions = list(dict.fromkeys(t.direction for t in results.timings))
    stills = [Figure(f"time-{direction}.svg", f"Time per element, {direction}") for direction in directions]
    columns: list[str | Column] = ["format", "direction", "function", "implementation"]
    columns += numeric("time", unit="ns") + numeric("quartiles", "× SiLU", "× copy", "GB/s")
    columns += numeric("of copy's GB/s") if shares else []
    columns += numeric("compile", unit="s")
    table = Table(columns, [_timing_row(row, shares) for row in rows], folded=f"All {len(rows)} timings")
    return Section("timings", "Timings", [text, _times_choice(results, directions, stills), table])


def _times_choice(results: Results, directions: Sequence[str], stills: Sequence[Figure]) -> Choice:
    formats = list(dict.fromkeys(t.fmt for t in results.timings))
    formats.sort(key=lambda name: name != "bf16")  # begins with it
    variants: dict[tuple[str, ...], list[Part]] = {}
    for fmt in formats:
        for direction in directions:
            mine = [t for t in timed(results.timings, direction) if t.fmt == fmt]
            for unit in UNITS:
                if mine and (drawing := times(mine, unit, results.profile.lead)):
                    variants[fmt, direction, unit] = [Drawn([drawing])]
    named = zip(("format", "direction", "unit"), (formats, directions, UNITS), strict=True)
    controls = [Control(f"time-{name}", name, [(v, v) for v in values]) for name, values in named]
    return Choice(controls, variants, stills)


def _timing_row(row: TimingRow, shares: bool) -> Row:
    t = row.t
    share = "" if t.bandwidth_share is None else f"{100 * t.bandwidth_share:.0f} %"
    figures: list[str | Cell] = [
        f"{t.time_ns:.3f}",
        f"{t.time_ns_low:.3f}–{t.time_ns_high:.3f}",
        f"{t.ratio_to_silu:.2f}",
        f"{t.ratio_to_copy:.2f}",
        f"{t.effective_gb_per_s:.2f}",
        *([share] if shares else []),
        "" if t.compile_seconds is None else f"{t.compile_seconds:.1f}",
    ]
    if t.failure:
        figures = [Cell(reason(t.failure), span=len(figures))]
    names = [t.fmt, t.direction, t.function, row.name]
    return Row([*names, *figures], anchor(row.case))


def blocks(results: Results) -> Section | None:
    """Each activation in an MLP block of a model."""
    if not results.blocks:
        return None
    columns: list[str | Column] = ["function", "implementation"]
    columns += numeric("hidden") + numeric("time", unit="ms") + numeric("quartiles", "time × SiLU")
    columns += numeric("peak", unit="MiB") + numeric("memory × SiLU")
    table = Table(columns, [*map(_block_row, results.blocks)])
    return Section("blocks", "In an MLP block", [_block_words(results), table], nav="MLP block")


def _block_row(b: Block) -> Row:
    figures: list[str | Cell] = [
        f"{b.time_ms:.3f}",
        f"{b.time_ms_low:.3f}–{b.time_ms_high:.3f}",
        ratio(b.ratio_to_silu),
        ratio(b.peak_mib, 0),
        ratio(b.memory_to_silu),
    ]
    if b.failure:
        figures = [Cell(reason(b.failure), span=5)]
    return Row([b.function, f"{b.implementation} [{b.execution}]", str(b.hidden), *figures])


def _block_words(results: Results) -> str:
    """What the table of MLP blocks shows."""
    b = results.blocks[0]
    silu = next((b for b in results.blocks if b.function == "silu"), None)
    ratios = (
        "Medians, and the ratios of time and of peak memory to SiLU's block in the same rounds."
        if silu is not None and silu.failure is None
        else "Medians; SiLU's block, which ratios refer to, gave no figures, so that there are none."
    )
    return (
        f"One forward and backward pass of a Llama-style MLP block in {b.fmt}: {b.tokens} tokens, model "
        f"width {b.model_width}, hidden width as shown (a gated block has a third matrix and two thirds of "
        f'the width). {ratios} The paper\'s Table 1 has the same in "The paper beside the lab".'
    )


__all__ = ["blocks", "reductions", "timings"]
