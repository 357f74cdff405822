"""Findings in plain words, each derived from rows of the results and naming them."""

from __future__ import annotations

from precision_lab.report import findings_accuracy as accuracy
from precision_lab.report import findings_compiled as compiled
from precision_lab.report import findings_faults as faults
from precision_lab.report import findings_use as use
from precision_lab.report.wording import Finding
from precision_lab.results import Results

# Topics in the order a reader meets them, each with the question it answers.
TOPICS = {
    "certainty": "Can the figures be trusted?",
    "safety": "Which formulation is safe?",
    "expm1": "Is expm1 enough near 0⁻?",
    "eps": "Does clamping at eps do harm?",
    "nonfinite": "Where do NaN and infinities appear?",
    "breaks": "Where does each formulation break?",
    "module": "What do users of a ready-made module get?",
    "fp8": "What happens in FP8?",
    "executions": "Do upcasting and compiling help?",
    "compiled": "Which formulation survives the compiler that trains with it?",
    "reductions": "What does the optimiser receive?",
    "timings": "What does it cost?",
    "failures": "What gave no figures?",
}


def derive(results: Results) -> tuple[Finding, ...]:
    """Every finding the numbers support, in the order of `TOPICS`."""
    sound = [m for m in results.measurements if m.failure is None]
    return (
        *accuracy.certainty(sound),
        *accuracy.safest(sound),
        *accuracy.expm1(sound),
        *faults.eps_clamp(sound),
        *faults.nonfinite(sound),
        *faults.breaks(sound),
        *use.modules(sound),
        *use.fp8(sound),
        *use.executions(sound),
        *compiled.survivors(results),
        *use.reductions(results.reductions),
        *use.timings(results.timings, results.profile),
        *use.failures(results),
    )


__all__ = ["TOPICS", "Finding", "derive"]
