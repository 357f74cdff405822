"""What the commands print, with rich."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from precision_lab.devices import Check
from precision_lab.measuring.explain import Explanation
from precision_lab.measuring.sweep import Sweep
from precision_lab.results import Measurement, replay_command
from precision_lab.system.text import plain
from precision_lab.verifying.judge import describe
from precision_lab.verifying.plan import LAWS
from precision_lab.verifying.verdict import Verdict

if TYPE_CHECKING:  # torch, for one command alone
    from precision_lab.lowprecision.readiness.readiness import Readiness


class _PlainConsole(Console):
    """Every text that is printed may hold a kernel's words: none reaches the terminal as an instruction."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)

    def on_broken_pipe(self) -> None:
        raise  # rich would end the process; what is still to be written would be lost


def console_for(*, stderr: bool = False) -> Console:
    """Where results are printed for people."""
    # No markup: names such as "stable [upcast]" are text. A pipe has no width to respect.
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return _PlainConsole(stderr=stderr, highlight=False, markup=False, width=None if terminal else 120)


def _number(value: float, digits: int = 4) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


def print_explanation(e: Explanation, console: Console) -> None:
    """One screen: input, exact value, conditioning, then a line per implementation."""
    params = ", ".join(f"{name}={value!r}" for name, value in e.params.items())
    title = Text.assemble((f"{e.function}.{e.output}", "bold"), f"  {e.fmt}  {params}")
    console.print(title, soft_wrap=True)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("x", f"{e.x!r}   {e.x_hex}   bits {e.bits}   region {e.region}")
    facts.add_row("exact", f"{e.exact}   ({e.enclosure}; scored by {e.tier})")
    facts.add_row(
        "rounded", f"{e.rounded!r}   bits {e.rounded_bits} in {e.output_fmt}   tail {e.tail_ulps:+.6f} ulp"
    )
    facts.add_row("condition", f"{_number(e.condition)}   |x·g'(x)/g(x)|")
    facts.add_row(
        "bits lost",
        f"{_number(e.lost_as_exp_minus_1, 3)} written with exp(x) − 1,  "
        f"{_number(e.lost_as_expm1, 3)} with expm1(x)",
    )
    console.print(facts)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("implementation", "execution", "value", "bits"):
        table.add_column(name, no_wrap=True)
    table.add_column("error, ulps", justify="right", no_wrap=True)
    table.add_column("")
    for row in e.rows:
        style = "red" if row.note or not abs(row.error_ulps) <= 1 else None
        shown = "–" if math.isnan(row.error_ulps) else f"{row.error_ulps:+.6g}"
        value = f"{row.value:.8g}" if row.bits else "–"
        table.add_row(row.implementation, row.execution, value, row.bits, shown, row.note, style=style)
    console.print(table)
    used = {tuple(row.params.items()) for row in e.rows if row.params != e.params}
    if used:
        console.print(
            "Some implementations use other effective parameters; each is judged with its own.", style="dim"
        )


def _print_measurements(console: Console, measurements: Sequence[Measurement]) -> None:
    """A table per output, a line per region."""
    for m in measurements:
        title = (
            f"{m.function}.{m.output}  {m.implementation} [{m.execution}]  {m.fmt}  {m.inputs} ({m.n_inputs})"
        )
        if m.failure is not None:
            title = title.rpartition("  ")[0]
            console.print(f"{title}: {m.failure.kind}: {m.failure.message}", style="red", soft_wrap=True)
            continue
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("region")
        names = (
            "inputs",
            "max ulp",
            "mean ulp",
            "bias",
            "not rounded",
            "wrong sign",
            "inf/nan",
            "least bits",
        )
        for name in names:
            table.add_column(name, justify="right")
        for region, s in m.regions.items():
            table.add_row(
                region,
                str(s.n_inputs),
                _number(s.max_ulp),
                _number(s.mean_ulp),
                _signed(s.mean_signed_ulp),
                str(s.not_correctly_rounded),
                str(s.wrong_sign),
                str(s.nonfinite_mismatch),
                f"{max(0.0, s.min_correct_bits):.1f}",
            )
        console.print(table)
        if m.mean_signed_ulp is not None:
            console.print(_bias(m), soft_wrap=True)
        if m.time_ns_per_element is not None:
            console.print(f"time {m.time_ns_per_element:.3g} ns per element", soft_wrap=True)


def _bias(m: Measurement) -> str:
    """Signed means beside those of the correct rounding, away from zero being positive."""
    nearest = _signed(m.nearest_signed_ulp)
    text = f"bias {_signed(m.mean_signed_ulp)} ulp (nearest {nearest})"
    for name, pair in (
        ("relative", (m.mean_signed_relative, m.nearest_signed_relative)),
        ("for standard normal inputs", m.normal_bias),
    ):
        if pair is not None and pair[0] is not None:
            text += f", {name} {_percent(pair[0])} (nearest {_percent(pair[1])})"
    return f"{text}, lean {'–' if m.lean is None else f'{m.lean:+.2f}'}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:+.2g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value + 0.0:+.2g} %"


def print_verdict(verdict: Verdict, console: Console, *, brief: bool = False) -> None:
    """A table per output and region, a line per property, then the faults with witness and replay command.

    Args:
        brief: leave the judgement out, where nothing was promised.
    """
    good = [m for m in verdict.measurements if m.failure is None]
    first = {m.fmt: m.params_name for m in reversed(good)}
    _print_measurements(console, [m for m in good if m.params_name == first[m.fmt]])
    _print_other_sets(console, [m for m in good if m.params_name != first[m.fmt]])
    _print_properties(console, verdict)
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
    for failure in verdict.failures:
        console.print(failure, style="red", soft_wrap=True)
    for reason in verdict.reasons:
        console.print(f"inconclusive: {reason}", style="yellow", soft_wrap=True)
    if not brief:
        for step in verdict.next_steps[:3]:  # of the worst; JSON has all
            console.print(f"next: {step}", soft_wrap=True)
        console.print(verdict.outcome, style={"pass": "green", "fail": "red"}.get(verdict.outcome, "yellow"))


def _print_other_sets(console: Console, measurements: Sequence[Measurement]) -> None:
    """A line per output for the parameter sets after the first; JSON has their regions too."""
    if not measurements:
        return
    table = Table(title="other parameters", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("parameters", "format", "output"):
        table.add_column(name)
    for name in ("inputs", "max ulp", "mean ulp", "not rounded", "wrong sign", "inf/nan"):
        table.add_column(name, justify="right")
    for m in measurements:
        table.add_row(
            m.params_name, m.fmt, m.output, str(m.n_inputs), _number(m.max_ulp), _number(m.mean_ulp),
            str(m.not_correctly_rounded), str(m.wrong_sign), str(m.nonfinite_mismatch),
        )  # fmt: skip
    console.print(table)


_STATES = {
    "holds": "hold", "broken": "do not hold", "does not apply": "do not apply",
    "not examined": "are not examined",
}  # fmt: skip


def _print_properties(console: Console, verdict: Verdict) -> None:
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
    for state, names in by_state.items():
        console.print(f"engineering properties that {_STATES[state]}: {', '.join(names)}", soft_wrap=True)
    for g in gaps:
        console.print(f"not examined: {g.what} [{g.fmt}, {g.params_name}]: {g.reason}", soft_wrap=True)


def print_readiness(found: Readiness, console: Console) -> None:
    """Verdicts with their numbers, why not, what was looked at, and what to do, in 80 columns."""
    table = Table(title=f"Readiness: {found.source}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("verdict")
    columns = ["forward", "gradient", "clipped"] + ["inputs"] * (found.linear_inputs is not None)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for v in found.verdicts:
        numbers = [f"{v.forward_noise:.2%}", f"{v.gradient_noise:.2%}", f"{v.clipped:.3%}"]
        if found.linear_inputs is not None:
            numbers.append(f"{v.input_noise:.2%}")
        table.add_row(v.recipe, v.verdict, *("–" if n.startswith("nan") else n for n in numbers))
    console.print(table)
    words = {"forward": "noise of the stored activation", "gradient": "of its gradient",
             "inputs": "of the inputs of linear layers"}  # fmt: skip
    console.print("; ".join(f"{k}: {words[k]}" for k in columns if k in words))
    for v in found.verdicts:
        for sentence in v.why:
            console.print(f"{v.recipe}: {sentence}")
    for sentence in found.warnings:
        console.print(f"warning: {sentence}")
    console.print(found.seen)
    console.print()
    for line in found.advice:
        console.print(line, soft_wrap=line.startswith("    "))


def print_sweep(sweep: Sweep, failures: Sequence[str], console: Console) -> None:
    """Tables per output, what each tier settled, worst inputs, broken bounds and the digest."""
    _print_measurements(console, sweep.measurements)
    for m in sweep.measurements:
        if m.failure is None:
            settled = ", ".join(f"{name} {count}" for name, count in m.escalated.items() if count)
            console.print(f"{m.output}: settled by {settled}; undecided {m.undecided}", soft_wrap=True)
            if m.witness is not None:
                worst = f"worst {m.max_ulp:.6g} ulps at x={m.witness.x!r}"
                console.print(f"{m.output}: {worst}: {replay_command(m, m.witness)}", soft_wrap=True)
    for failure in failures:
        console.print(failure, style="red", soft_wrap=True)
    if sweep.resumed or sweep.redone:
        console.print(
            f"{sweep.resumed} of {sweep.shards} shards were there already, "
            f"{sweep.redone} damaged ones were done again"
        )
    for version, digest in sorted(sweep.digests.items(), reverse=True):
        note = "" if digest == sweep.digest else f"   (version {version}: without signed sums)"
        console.print(f"digest {digest}{note}", soft_wrap=True)


def print_checks(checks: Sequence[Check], record: dict[str, str], console: Console) -> None:
    words = {True: Text("ok", "green"), False: Text("FAILS", "red"), None: Text("–")}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in checks:
        table.add_row(words[check.ok], check.name, check.detail)
    console.print(table)
    console.print("  ".join(f"{name} {value}" for name, value in record.items()), style="dim")
