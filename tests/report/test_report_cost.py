"""The section on what kernels cost: which figure stands in which column."""

from __future__ import annotations

from typing import Any

from sample_costs import FORWARD, cost

from precision_lab.report.section import Prose, Table
from precision_lab.report.sections.cost import counts
from precision_lab.results import Results
from precision_lab.results.cost import Cost, DirectionCost


def parts(*costs: Cost) -> list[Any]:
    section = counts(Results({}, {}, (), (), (), {}, costs=costs))
    assert section is not None
    return list(section.parts)


def rows(*costs: Cost) -> list[list[Any]]:
    (table,) = (part for part in parts(*costs) if isinstance(part, Table))
    return [[getattr(cell, "text", cell) for cell in row.cells] for row in table.rows]


def test_without_costs_there_is_no_section() -> None:
    assert counts(Results({}, {}, (), (), (), {})) is None


def test_a_row_has_both_passes_and_the_gpu_on_which_a_copy_was_measured() -> None:
    assert rows(cost()) == [[
        "sm_90", "xielu", "stable [operator]", "bf16", "23.25", "30 to 39.5", "4", "6", "32 / 62",
        "64 of 64 / 32 of 64", "H200: 75 % of issue slots, bound by memory",
        "H200: 95 % of issue slots, open: memory or instructions",
    ]]  # fmt: skip


def test_what_was_not_counted_says_why() -> None:
    failed = DirectionCost("backward", 6.0, failure="no kernel was launched")
    (row,) = rows(cost(directions=(FORWARD, failed)))
    assert row[5] == "–" and row[-1] == "–" and row[8] == "32"
    (row,) = rows(cost(directions=(failed,)))
    assert row[4] == "not counted" and len(row) == 5


def test_nothing_that_was_counted_is_called_a_time() -> None:
    words = " ".join(p.text for p in parts(cost()) if isinstance(p, Prose))
    assert "Nothing here is a time" in words and "faster" not in words and "slower" not in words
