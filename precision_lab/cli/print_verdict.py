"""A verdict for people: its circumstances, its findings, and at the end what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from precision_lab.cli.columns import Column, fits, numbers, print_table, print_text
from precision_lab.cli.printing import number, print_measurements
from precision_lab.results import Measurement, Severity
from precision_lab.results.regions import legend
from precision_lab.system.text import plain_message
from precision_lab.verifying.causes import Cause, causes, folded_words, shown_and_folded
from precision_lab.verifying.judge import describe
from precision_lab.verifying.plan import LAWS
from precision_lab.verifying.summary import (
    FAILS,
    HOLDS,
    OutputLine,
    bound_words,
    missing_words,
    next_step,
    outcome_sentence,
    output_lines,
    subject,
)
from precision_lab.verifying.verdict import Verdict

_COLOURS = {
    Severity.CRITICAL: "bold red", Severity.MAJOR: "red", Severity.MINOR: "yellow", Severity.NOTE: "dim",
}  # fmt: skip
_OUTCOMES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def print_verdict(
    verdict: Verdict, console: Console, *, brief: bool = False, everything: bool = False
) -> None:
    """What was not measured, the findings by cause, a line per output, the bound that would pass, the next
    step, and the outcome.

    Args:
        brief: leave the judgement out, where nothing was promised.
        everything: also a table per output and region, every parameter set and every finding for itself.
    """
    good = [m for m in verdict.measurements if m.failure is None]
    if everything:
        first = {m.fmt: m.params_name for m in reversed(good)}
        print_measurements(console, [m for m in good if m.params_name == first[m.fmt]])
        _print_other_sets(console, [m for m in good if m.params_name != first[m.fmt]])
    _print_circumstances(verdict, console, everything=everything)
    found = causes(verdict)
    shown, folded = shown_and_folded(found)
    if everything:
        for finding in verdict.findings:
            console.print(
                Text.assemble(_severity(finding.severity), plain_message(describe(finding))), soft_wrap=True
            )
    else:
        for cause in shown:
            _print_cause(cause, console)
        if folded:
            print_text(console, f"{folded_words(folded)}: --all shows them")
    lines = output_lines(verdict)
    if found:
        console.print()
    _print_outputs(verdict, lines, console)
    regions = [line.region for line in lines]
    regions += [r for cause in shown for r in cause.lead.regions]
    regions += [cause.place for cause in folded]
    if everything:
        regions += [name for m in good for name in m.regions]
    if words := legend(regions):
        print_text(console, words, style="dim")
    if brief:
        return
    for label, words in (
        ("bound: ", bound_words(verdict)), ("next: ", next_step(verdict)),
    ):  # fmt: skip
        if words:
            print_text(console, label + words)
    word, colon, reason = outcome_sentence(verdict).partition(":")
    print_text(console, Text.assemble((word, _OUTCOMES[verdict.outcome]), plain_message(colon + reason)))


def _print_circumstances(verdict: Verdict, console: Console, *, everything: bool) -> None:
    """Properties, laws, devices, notes, what was accepted, left out and not examined."""
    _print_properties(console, verdict, everything=everything)
    for laws in (e for e in verdict.examinations if e.property == LAWS):
        console.print(f"laws ({laws.fmt}): {laws.state}", soft_wrap=True)
    for words in verdict.devices:
        console.print(f"devices: {words}", soft_wrap=True)
    for note in verdict.notes:
        console.print(f"note: {note}", style="dim", soft_wrap=True)
    for fault in verdict.known:
        console.print(f"accepted: {describe(fault)}", style="yellow", soft_wrap=True)
    for what in verdict.left_out:
        console.print(f"left out: {what}", soft_wrap=True)
    if everything or verdict.outcome == "inconclusive":
        for words in missing_words(verdict):
            print_text(console, f"not examined, though asked for: {words}", style="yellow")
    elif verdict.reasons:
        n = sum(g.asked for g in verdict.not_examined)
        print_text(console, f"not examined, though asked for: {n} things; --all says why", style="yellow")


def _severity(level: Severity) -> tuple[str, str]:
    return f"{level.word} ", _COLOURS[level]


def _print_cause(cause: Cause, console: Console) -> None:
    """The sentence, how often, the input, and on a line of its own the command that shows it again."""
    print_text(console, Text.assemble(_severity(cause.severity), plain_message(cause.sentence())))
    for words in (cause.spread(), *cause.input_lines()):
        if words:
            print_text(console, words, indent=2)
    if cause.lead.replay:
        # Unbroken, so that it can be copied.
        console.print(Text(f"  {cause.lead.replay}", style="dim"), soft_wrap=True)


def _print_outputs(verdict: Verdict, lines: Sequence[OutputLine], console: Console) -> None:
    """A line per output, under a heading per format; what has no room in it stands below it."""
    if not lines:
        return
    console.print(Text(plain_message(subject(verdict)), style="bold"), soft_wrap=True)
    sets = list(dict.fromkeys(m.params_name for m in verdict.measurements))
    by_format = {
        fmt: [line for line in lines if line.fmt == fmt] for fmt in dict.fromkeys(n.fmt for n in lines)
    }
    names = {name: name for name in sets} if len(sets) > 1 else {}
    if not all(fits(*_table(group, names), console.width) for group in by_format.values()):
        names = {name: str(place) for place, name in enumerate(names, 1)}
    for fmt, group in by_format.items():
        styles = [{HOLDS: None, FAILS: "red", "": None}.get(line.state, "yellow") for line in group]
        print_table(console, *_table(group, names), title=fmt if len(by_format) > 1 else "", styles=styles)
    if any(name != place for name, place in names.items()):
        words = ", ".join(f"{place} {name}" for name, place in names.items())
        print_text(console, f"sets: {words}", style="dim")


def _table(lines: Sequence[OutputLine], sets: Mapping[str, str]) -> tuple[list[Column], list[list[str]]]:
    """Columns and rows; `sets` says how each set of parameters is written, in a column if there are any."""
    columns = [Column("output"), Column(""), Column("max ulp", right=True), Column("region")]
    columns += numbers("at x", "wrong\nsign", "inf/\nnan")
    columns += [Column("parameters" if any(name == n for name, n in sets.items()) else "set")] if sets else []
    counts = any(line.wrong_sign or line.nonfinite for line in lines)
    kept = [True, any(line.state for line in lines), True, True, True, counts, counts, True]
    rows = []
    for line in lines:
        x = "–" if line.x is None else number(line.x)
        tally = ["–" if line.note else str(count) for count in (line.wrong_sign, line.nonfinite)]
        row = [line.output, line.state, line.note or number(line.max_ulp), line.region or "–", x, *tally]
        rows.append(row + ([sets.get(line.params_name, "–")] if sets else []))
    chosen = [k for k in range(len(columns)) if kept[k]]
    return [columns[k] for k in chosen], [[row[k] for k in chosen] for row in rows]


def _print_other_sets(console: Console, measurements: Sequence[Measurement]) -> None:
    """A line per output for the parameter sets after the first; JSON has their regions too."""
    if not measurements:
        return
    columns = [Column("parameters"), Column("format"), Column("output")]
    columns += numbers("inputs", "max ulp", "mean ulp", "not\nrounded", "wrong\nsign", "inf/\nnan")
    rows = [
        [
            m.params_name, m.fmt, m.output, str(m.n_inputs), number(m.max_ulp), number(m.mean_ulp),
            str(m.not_correctly_rounded), str(m.wrong_sign), str(m.nonfinite_mismatch),
        ]
        for m in measurements
    ]  # fmt: skip
    print_table(console, columns, rows, title="other parameters", keys=3)


_STATES = {
    "holds": "hold", "broken": "do not hold", "does not apply": "do not apply",
    "not examined": "are not examined",
}  # fmt: skip


def _print_properties(console: Console, verdict: Verdict, *, everything: bool) -> None:
    """How each property ended: "all hold" only where all were examined and nothing is excused."""
    if not verdict.properties:
        return
    by_state: dict[str, list[str]] = {}
    for e in (e for e in verdict.examinations if e.property != LAWS):
        label = e.property if len({m.fmt for m in verdict.measurements}) < 2 else f"{e.property} ({e.fmt})"
        told = e.reason and e.state != "not examined"
        reason = f" ({e.reason})" if told else ""
        by_state.setdefault(e.state, []).append(label + reason)
    gaps = [g for g in verdict.not_examined if not g.asked]
    whole = not (by_state.get("broken") or verdict.known or verdict.not_examined or verdict.left_out)
    if whole and by_state.get("holds"):
        console.print("engineering properties: all hold", soft_wrap=True)
    broken = {e.property for e in verdict.examinations if e.state != "holds"}
    held = {e.property for e in verdict.examinations if e.state == "holds"} - broken - {LAWS}
    for state, names in by_state.items():
        if everything or state in ("broken", "not examined"):
            print_text(console, f"engineering properties that {_STATES[state]}: {', '.join(names)}")
        elif state == "holds" and held and not whole:
            print_text(console, f"engineering properties that hold: {len(held)}")
    # What nobody asked for: the first of it, and how much more.
    for g in gaps if everything else gaps[:1]:
        print_text(console, f"not examined: {g.what} [{g.fmt}, {g.params_name}]: {g.reason}")
    if len(gaps) > 1 and not everything:
        print_text(console, f"not examined: {len(gaps) - 1} more that nobody asked for; --all shows them")
