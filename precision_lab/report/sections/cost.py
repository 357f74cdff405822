"""What kernels cost, counted in the machine code that their compilers made."""

from __future__ import annotations

from precision_lab.report import costs as words
from precision_lab.report.section import Cell, Column, Prose, Row, Section, Table, numeric
from precision_lab.results import Results
from precision_lab.results.cost import BY_MEMORY, Cost, DirectionCost, Share
from precision_lab.results.execution import labelled


def counts(results: Results) -> Section | None:
    """Instructions, bytes and registers of each kernel, and what that is beside a copy."""
    if not results.costs:
        return None
    text = Prose(
        "Instructions that a thread executes and bytes that it moves, for each element of a large tensor of "
        "standard normal inputs, counted in the machine code. Nothing here is a time. *At copy speed*: while "
        "a plain copy moves as many bytes as the kernel does, so much of what the GPU can do has to be done, "
        "in issue slots or in the unit with the most to do. A kernel is **bound by memory** where that is at "
        "most 90 %. Latency, caches and how well instructions overlap are not in this count.",
        page=" Pointing at a share shows other GPUs.",
    )
    columns: list[str | Column] = [
        "device", "function", "kernel", "format", *numeric("forward", "backward", unit="instructions"),
        *numeric("forward", "backward", unit="bytes"), *numeric("registers"), "warps",
        "forward at copy speed", "backward at copy speed",
    ]  # fmt: skip
    table = Table(columns, [_row(c) for c in results.costs])
    return Section("cost", "What a kernel costs, counted", [text, table], nav="Cost")


def _row(found: Cost) -> Row:
    both = [found.direction(name) for name in ("forward", "backward")]
    about: list[str | Cell] = [
        found.device, found.function, labelled(found.implementation, found.execution), found.fmt
    ]  # fmt: skip
    failures = [d.failure for d in both if d is not None and d.failure]
    counted = [None if d is None or d.failure else d for d in both]
    if not any(counted):
        return Row([*about, Cell("not counted", title="; ".join(failures), span=8)])
    instructions = [Cell("–") if d is None else Cell(words.executed(d), title=_units(d)) for d in counted]
    moved = [
        Cell("–") if d is None else Cell(words.per_element(d.moved), title=words.moved(d)) for d in counted
    ]
    mains = [d.main for d in counted if d is not None and d.main is not None]
    registers = " / ".join(str(m.registers) for m in mains)
    warps = " / ".join(f"{m.warps} of {m.most_warps}" if m.most_warps else "–" for m in mains)
    return Row([*about, *instructions, *moved, registers, warps, *map(_share, counted)])


def _units(found: DirectionCost) -> str:
    return ", ".join(
        f"{unit} {words.per_element(count)}" for unit, count in found.units.items() if count >= 0.005
    )


def _share(found: DirectionCost | None) -> Cell:
    """Of the GPU on which a copy was measured, or the last."""
    if found is None or not found.shares:
        return Cell("–")
    shown = next((s for s in found.shares if s.copy_is_measured), found.shares[-1])
    return Cell(
        f"{shown.gpu}: {words.share_of(shown)}, {words.bound_of(shown)}",
        level=0 if shown.bound == BY_MEMORY else 2,
        title="; ".join(map(_other, (s for s in found.shares if s is not shown))),
    )


def _other(share: Share) -> str:
    assumed = "" if share.copy_is_measured else ", a copy's share of the peak assumed"
    return f"{share.gpu}: {words.share_of(share)}, {words.bound_of(share)}{assumed}"


__all__ = ["counts"]
