"""The sections of a report: one function each, from the results to a `Section`, or None without any.

To add one, write such a function and list it in `SECTIONS`, where it is to be read.
"""

from __future__ import annotations

from collections.abc import Callable

from precision_lab.report.section import Section
from precision_lab.report.sections import (
    accuracy,
    aged,
    answers,
    compiled,
    cost,
    decision,
    emulated,
    lowprecision,
    method,
    paper,
    probe,
    questions,
    use,
)
from precision_lab.results import Results

SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    decision.decision,
    accuracy.heat_map,
    questions.stability,
    answers.findings,
    accuracy.bits,
    accuracy.regions,
    accuracy.witnesses,
    compiled.formulations,
    emulated.kernels,
    cost.counts,
    use.reductions,
    use.timings,
    use.blocks,
    accuracy.conversions,
    lowprecision.verdicts,
    lowprecision.kernels,
    lowprecision.inputs,
    lowprecision.stored,
    lowprecision.paths,
    lowprecision.amplification,
    lowprecision.maps,
    lowprecision.block_errors,
    probe.losses,
    probe.ablations,
    aged.prediction,
    aged.ageing,
    aged.formulations,
    aged.remedies,
    probe.watched,
    paper.paper,
    decision.formulations,
    method.environment,
    method.method,
)

__all__ = ["SECTIONS"]
