"""Each formulation as torch runs it: eager, compiled for the CPU, compiled for a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from precision_lab.report.findings_compiled import GPU_COMPILED, WAYS, Way, side_by_side
from precision_lab.report.rows import anchor
from precision_lab.report.section import Cell, Column, Prose, Row, Section, Table, numeric
from precision_lab.report.sections.emulated import error_cell
from precision_lab.results import Measurement, Results


def formulations(results: Results) -> Section | None:
    """Largest errors of every formulation in every way it is run, initial parameters."""
    found = side_by_side(results)
    if not found:
        return None
    ran = (m for ways in found.values() for m in ways.get(GPU_COMPILED, ()))
    devices = " and ".join(dict.fromkeys(m.device for m in ran))
    words = Prose(
        "The same source, run eagerly on the CPU, compiled by `torch.compile` for the CPU, and compiled for "
        f"{devices}: Inductor's Triton code to PTX, executed instruction by instruction. Inductor for a GPU "
        "keeps FP32 between operations and takes functions from NVIDIA's libdevice; for the CPU it has "
        "vector code of its own, so that what one compiler gives does not foretell the other. *With casts*: "
        "with Inductor's `emulate_precision_casts`, which rounds wherever an eager kernel does. Errors in "
        "ulps: forward / the worst gradient, at the initial parameters; **±** marks wrong signs, **∞** a NaN "
        "or infinity in the wrong place."
    )
    columns: list[str | Column] = [
        "function", "formulation", "format",
        *numeric(*(f"{way.title}, {part}" for way in WAYS for part in ("forward", "gradients"))),
    ]  # fmt: skip
    rows = [_row(key, ways) for key, ways in found.items()]
    title = "Eager, compiled for the CPU, compiled for a GPU"
    return Section("compiled", title, [words, Table(columns, rows)])


def _row(key: tuple[str, str, str], ways: Mapping[Way, Sequence[Measurement]]) -> Row:
    cells: list[str | Cell] = [*key]
    for way in WAYS:
        rows = ways.get(way, ())
        cells.append(error_cell([m for m in rows if m.output == "forward"]))
        cells.append(error_cell([m for m in rows if m.output != "forward"]))
    return Row(cells, anchor=anchor("/".join(("compiled", *key))))


__all__ = ["formulations"]
