"""What a verdict comes to: a line per output, counts, what would pass, the next step, one sentence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from precision_lab.results import Finding, Measurement, Severity
from precision_lab.results.codes import ACCURACY, CODES, RUNNING
from precision_lab.results.execution import labelled
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.causes import causes, folded_words, shown_and_folded
from precision_lab.verifying.passing_bound import at_nonfinite_inputs_alone, passing_bound
from precision_lab.verifying.verdict import Verdict

HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class OutputLine:
    """One output in one format, over all sets of parameters.

    Attributes:
        state: "holds", "fails", "open" where nobody knows; "" where nothing was promised.
        max_ulp: the worst, measured against what is allowed in each region; NaN without figures.
        region, x: where that is; "" and None where there is no error at all.
        wrong_sign, nonfinite: inputs in the set that has most of them.
        params_name: the set of the worst error.
        note: what stands there instead of figures.
    """

    fmt: str
    output: str
    state: str
    max_ulp: float = math.nan
    region: str = ""
    x: float | None = None
    wrong_sign: int = 0
    nonfinite: int = 0
    params_name: str = ""
    note: str = ""


def output_lines(verdict: Verdict) -> tuple[OutputLine, ...]:
    """A line for each output that was measured, or that should have been."""
    rows: dict[tuple[str, str], list[Measurement]] = {}
    for m in verdict.measurements:
        rows.setdefault((m.fmt, m.output), []).append(m)
    accuracy = {**ACCURACY, **RUNNING}
    failing = {(f.fmt, f.output) for f in verdict.faults if f.code in accuracy}
    unknown = {(f.fmt, f.output) for f in verdict.undecided}
    missing = {(g.fmt, g.what) for g in verdict.not_examined if g.asked and g.what not in verdict.properties}
    found = []
    for fmt, output in rows:
        where = (fmt, output)
        promised = verdict.against or f"{fmt}.{output}" in verdict.bounds
        state = FAILS if where in failing else OPEN if where in unknown | missing else HOLDS
        found.append(_line(verdict, rows[where], state if promised or state != HOLDS else ""))
    gaps = [g for g in verdict.not_examined if (g.fmt, g.what) in missing - set(rows)]
    return (*found, *(OutputLine(g.fmt, g.what, OPEN, note="not examined") for g in dict.fromkeys(gaps)))


def _line(verdict: Verdict, rows: Sequence[Measurement], state: str) -> OutputLine:
    fmt, output = rows[0].fmt, rows[0].output
    failed = [m for m in rows if m.failure is not None]
    if failed:
        note = failed[0].failure.kind if failed[0].failure else ""
        return OutputLine(fmt, output, state, params_name=failed[0].params_name, note=note)
    limits = verdict.bounds.get(f"{fmt}.{output}")
    bound = Bound(**limits) if limits else Bound(1.0)
    places = [
        (s.max_ulp / bound.limit(r, m.precision_bits), r, m) for m in rows for r, s in m.regions.items()
    ]
    share, region, worst = max(places, key=lambda place: place[0], default=(0.0, "", rows[0]))
    if not share > 0:
        region = ""
    seen = worst.regions[region] if region else None
    return OutputLine(
        fmt, output, state, seen.max_ulp if seen else worst.max_ulp, region,
        seen.witness.x if seen and seen.witness else None,
        max(m.wrong_sign for m in rows), max(m.nonfinite_mismatch for m in rows), worst.params_name,
    )  # fmt: skip


def counted(findings: Iterable[Finding]) -> str:
    """So many by severity, the worst first: "3 critical, 12 minor"."""
    counts = Counter(f.severity for f in findings)
    return ", ".join(f"{counts[level]} {level.word}" for level in Severity if counts[level])


def bound_words(verdict: Verdict) -> str:
    """The bound that would pass, or that none would; "" where the kernel passes or no bound was asked for."""
    found = passing_bound(verdict)
    if found is None:
        return ""
    if found.of_file:
        record = "--write-bound --loosen records this kernel in the file, faults included"
        return record if found.recordable else ""
    if found.max_ulp is None:
        words = f"none would pass while these stay: {', '.join(found.obstacles)}"
        return words + ("; --write-bound records what is, faults included" if found.recordable else "")
    anew = "; properties are then examined anew" if verdict.properties else ""
    hopeless = [m for m in verdict.measurements if found.max_ulp >= 2.0**m.precision_bits]
    wide = f" (so wide that no digit need be right, which {hopeless[0].output} needs)" if hopeless else ""
    if found.finite:
        options = found.options if found.max_ulp != verdict.max_ulp else "--finite, with the present bound,"
        return f"{options} would pass{wide}{anew}; without --finite none would"
    return f"{found.options} would pass{wide}{anew}"


def next_step(verdict: Verdict) -> str:
    """The one thing to do next; "" where there is nothing to be done."""
    if verdict.outcome == "pass":
        return ""
    if at_nonfinite_inputs_alone(verdict):
        return (
            "If no infinity and no NaN reaches this kernel, leave these inputs out with --finite "
            "(finite=True); the verdict then says so. Else give the limits there by branches of their own."
        )
    found = causes(verdict)
    if found:
        lead = found[0].lead
        return lead.finding.step_in(lead.region)
    gap = next(g for g in verdict.not_examined if g.asked)
    if "budget" in gap.reason:
        return "Give large calls more time (--budget SECONDS), or leave the option out."
    option = "--properties" if gap.what in verdict.properties else "--output"
    return f"Mend what keeps {gap.what} from being examined, or ask only for the rest ({option})."


def missing_words(verdict: Verdict) -> list[str]:
    """What was asked for and is not examined, said once for each reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for g in verdict.not_examined:
        if g.asked:
            found.setdefault((g.fmt, g.params_name, g.reason), []).append(g.what)
    return [f"{', '.join(what)} [{fmt}, {name}]: {why}" for (fmt, name, why), what in found.items()]


def outcome_sentence(verdict: Verdict) -> str:
    """Pass, fail or inconclusive, and why, in a sentence."""
    if verdict.outcome == "fail":
        return f"fail: {_worst_words(verdict)}"
    if verdict.outcome == "inconclusive":
        reasons = [
            f"{g.what} [{g.fmt}, {g.params_name}]: {g.reason}" for g in verdict.not_examined if g.asked
        ]
        reasons += [f"{f.output} [{f.fmt}]: {CODES[f.code].sentence}" for f in verdict.undecided]
        more = f", and {len(reasons) - 1} more reasons" if len(reasons) > 1 else ""
        return f"inconclusive: {reasons[0]}{more}"
    return f"pass: {_held(verdict)}"


def _worst_words(verdict: Verdict) -> str:
    lead = next(c for c in causes(verdict) if c.lead.finding in verdict.faults).lead
    f = lead.finding
    what = lead.headline() if f.code in ACCURACY else CODES[f.code].sentence
    where = f"{f.output} ({f.fmt})" if f.output else f.fmt
    n = len(verdict.faults)
    faults = (
        f"{n} faults ({counted(verdict.faults)}), the worst: " if n > 1 else f"one {f.severity.word} fault: "
    )
    return f"{faults}{what}{f', in {where}' if where else ''}{_finite_words(verdict)}"


def _held(verdict: Verdict) -> str:
    lines = [line for line in output_lines(verdict) if line.state == HOLDS]
    n = len(lines)
    outputs = f"{n} result{'s' if n > 1 else ''} hold{'' if n > 1 else 's'}" if n else "nothing was promised"
    limits = sorted({b["max_ulp"] for b in verdict.bounds.values()})
    if verdict.max_ulp is not None:
        outputs = f"all outputs within {verdict.max_ulp:g} ulp{'' if verdict.max_ulp == 1 else 's'}"
    elif limits:
        outputs = "all outputs within the bounds of the file"
    elif verdict.against:
        outputs = f"no output worse than {verdict.against}"
    held = [e for e in verdict.examinations if e.state == "holds" and e.property in verdict.properties]
    names = len({e.property for e in held})
    if names:
        outputs += f", {names} engineering propert{'ies hold' if names > 1 else 'y holds'}"
    if verdict.known:
        outputs += f"; {len(verdict.known)} known faults are accepted"
    return outputs + _finite_words(verdict)


def _finite_words(verdict: Verdict) -> str:
    return "; infinite and NaN inputs were left out" if verdict.finite else ""


def subject(verdict: Verdict) -> str:
    """What was verified: function, kernel, formats, inputs and sets of parameters."""
    rows = verdict.measurements
    if not rows:
        return ""
    formats = ", ".join(dict.fromkeys(m.fmt for m in rows))
    sets = list(dict.fromkeys(m.params_name for m in rows))
    inputs = dict.fromkeys(f"{m.inputs} ({m.n_inputs})" for m in rows if m.failure is None)
    parts = [rows[0].function, labelled(rows[0].implementation, rows[0].execution), formats]
    parts += [", ".join(inputs)] if len(inputs) <= 2 else [", ".join(dict.fromkeys(m.inputs for m in rows))]
    parts += [f"{len(sets)} parameter sets" if len(sets) > 1 else ", ".join(sets)]
    return "  ".join(part for part in parts if part)


def explanation(verdict: Verdict) -> str:
    """Why a verdict is no pass, for the message of a failed test: by cause, with counts and what to do."""
    found = causes(verdict)
    shown, folded = shown_and_folded(found)
    lines = [": ".join(part for part in (subject(verdict), outcome_sentence(verdict)) if part)]
    for cause in shown:
        lines += cause.lines()
    if folded:
        lines.append(f"{folded_words(folded)}; `verdict.failures` has all")
    lines += [f"inconclusive: {words}" for words in missing_words(verdict)]
    lines += [f"left out: {what}" for what in verdict.left_out]
    for label, words in (("bound: ", bound_words(verdict)),
                         ("next: ", next_step(verdict))):  # fmt: skip
        if words:
            lines.append(label + words)
    return "\n".join(lines)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data, with what it comes to under "summary"."""
    bound = passing_bound(verdict)
    summary = {
        "sentence": outcome_sentence(verdict),
        "faults": {level.word: sum(f.severity is level for f in verdict.faults) for level in Severity},
        "next_step": next_step(verdict),
        "passing_bound": None if bound is None else {
            "max_ulp": bound.max_ulp, "finite": bound.finite, "obstacles": list(bound.obstacles),
        },
        "outputs": [asdict(line) for line in output_lines(verdict)],
    }  # fmt: skip
    return {**verdict.to_json(), "summary": summary}
