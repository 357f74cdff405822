"""The paper's three questions of stability (arXiv 2411.13010, section 3.4), each with its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.report.findings_accuracy import (
    EXP_MINUS_ONE,
    bits_near_zero,
    is_near_zero,
    near_zero_witness,
)
from precision_lab.report.wording import cases, listed, shown, written
from precision_lab.results import Measurement, Results
from precision_lab.results.execution import EAGER

OUTPUTS = ("forward", "grad_x", "grad_alpha_n")
EXPM1, CLAMPED, CURE = "expm1", "eps-expm1", "stable"
ROUNDING_BITS = 1.5  # lost to the formulation's own roundings; what is lost beyond them is cancellation
QUESTIONS = {
    EXP_MINUS_ONE: "May eˣ − 1 be written as exp(x) − 1?",
    EXPM1: "Is expm1 the cure?",
    CLAMPED: "May x be clamped at −1e-6 first, as in the paper's listing?",
}
LEADING = "bf16"  # the format whose figure answers; another where that was not measured


@dataclass(frozen=True)
class Question:
    """One question about one function, and what the numbers answer.

    Attributes:
        implementation: the formulation it is about.
        asks: the question.
        severity: one of `wording.SEVERITIES`.
        answer: a sentence with its one figure.
        fmt: the format of that figure.
        command: shows the worst input again.
        evidence: keys of the rows it was read from.
        bits: of the worst input just below 0, by format and output, beside the precision.
    """

    function: str
    implementation: str
    asks: str
    severity: str
    answer: str
    fmt: str
    command: str
    evidence: tuple[str, ...]
    bits: Mapping[tuple[str, str], tuple[float, int]]


def questions(results: Results) -> tuple[Question, ...]:
    """Those that can be answered: for each leading function with that formulation, at initial parameters."""
    return tuple(q for function in results.profile.lead for q in _of(results, function))


def _of(results: Results, function: str) -> Iterator[Question]:
    rows = [
        m
        for m in results.measurements
        if (m.function, m.execution, m.params_name, m.failure) == (function, EAGER.name, "init", None)
        and m.output in OUTPUTS
        and is_near_zero(m)
    ]
    for name, asks in QUESTIONS.items():
        mine = [m for m in rows if m.implementation == name]
        formats = list(dict.fromkeys(m.fmt for m in mine))
        if not formats:
            continue
        fmt = LEADING if LEADING in formats else formats[0]
        here = [m for m in mine if m.fmt == fmt]
        severity, answer = _clamp(here) if name == CLAMPED else _cancellation(here)
        worst = min(here, key=bits_kept)
        yield Question(
            function, name, asks, severity, answer, fmt, shown(worst, near_zero_witness(worst)), cases(here),
            {(m.fmt, m.output): (bits_kept(m), m.precision_bits) for m in mine},
        )  # fmt: skip


def picture(q: Question) -> str:
    """The name of its figure's file."""
    return f"question-{q.function}-{q.implementation}-{q.fmt}.svg"


def bits_kept(m: Measurement) -> float:
    """Correct bits of the worst input just below 0."""
    return max(0.0, bits_near_zero(m))


def _cancellation(rows: Sequence[Measurement]) -> tuple[str, str]:
    """Whether each output keeps its bits."""
    kept = [m for m in rows if bits_kept(m) >= m.precision_bits - ROUNDING_BITS]
    lost = [m for m in rows if m not in kept]
    fmt = rows[0].fmt
    if not lost:
        least = min(rows, key=bits_kept)
        return "good", f"Yes: in {fmt} the worst input just below 0 keeps {_of_bits(least)}."
    figures = listed(f"{_of_bits(m)} in {written(m.output)}" for m in lost)
    keeps = "keep their bits" if len(kept) > 1 else "keeps its bits"
    good = f"; {listed(written(m.output) for m in kept)} {keeps}"
    return (
        "caution" if kept else "fault",
        f"{'Only in part' if kept else 'No'}: in {fmt} the worst input just below 0 keeps {figures}"
        f"{good if kept else ''}.",
    )


def _clamp(rows: Sequence[Measurement]) -> tuple[str, str]:
    """What the clamp does to signs of d/dx above it, and to the bits of the rest."""
    slope = next((m for m in rows if m.output == "grad_x" and "eps_zone" in m.regions), None)
    if slope is None or not slope.regions["eps_zone"].wrong_sign:
        return _cancellation(rows)
    zone = slope.regions["eps_zone"]
    share = "all" if zone.wrong_sign == zone.n_inputs else f"{zone.wrong_sign:,} of"
    value = next((m for m in rows if m.output == "forward"), None)
    jump = (
        ""
        if value is None or not value.jump_at_zero > 0
        else f", and f(0) is off by {value.jump_at_zero:.2g}"
    )
    return (
        "fault",
        f"No: in {slope.fmt} d/dx has the wrong sign at {share} {zone.n_inputs:,} inputs in (−1e-6, 0)"
        f"{jump}.",
    )


def _of_bits(m: Measurement) -> str:
    return f"{bits_kept(m):.2g} of {m.precision_bits} bits"


__all__ = ["CURE", "OUTPUTS", "QUESTIONS", "Question", "bits_kept", "picture", "questions"]
