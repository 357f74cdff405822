"""What the commands print, with rich."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from precision_lab.cli.columns import Column, numbers, print_facts, print_table, print_text
from precision_lab.cli.terminal import console_options
from precision_lab.devices import Check
from precision_lab.measuring.explain import Explanation
from precision_lab.measuring.sweep import Sweep
from precision_lab.results import Measurement, replay_command
from precision_lab.results.regions import legend
from precision_lab.system.text import plain

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
    # No markup: names such as "stable [upcast]" are text.
    options = console_options(sys.stderr if stderr else sys.stdout)
    return _PlainConsole(stderr=stderr, highlight=False, markup=False, **options)


def number(value: float, digits: int = 4) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


def print_explanation(e: Explanation, console: Console) -> None:
    """One screen: input, exact value, conditioning, then a line per implementation."""
    params = ", ".join(f"{name}={value!r}" for name, value in e.params.items())
    title = Text.assemble((f"{e.function}.{e.output}", "bold"), f"  {e.fmt}  {params}")
    console.print(title, soft_wrap=True)
    tail = f"tail {e.tail_ulps:+.6f} ulp"
    print_facts(console, [
        ("x", [f"{e.x!r}", e.x_hex, f"bits {e.bits}", f"region {e.region}"]),
        ("exact", [e.exact, f"({e.enclosure}; scored by {e.tier})"]),
        ("rounded", [f"{e.rounded!r}", f"bits {e.rounded_bits} in {e.output_fmt}", tail]),
        ("condition", [number(e.condition), "|x·g'(x)/g(x)|"]),
        ("bits lost", [
            f"{number(e.lost_as_exp_minus_1, 3)} written with exp(x) − 1",
            f"{number(e.lost_as_expm1, 3)} with expm1(x)",
        ]),
    ])  # fmt: skip
    columns = [Column("implementation"), Column("execution"), Column("value"), Column("bits")]
    columns += [Column("error, ulps", right=True)]
    rows, styles = [], []
    for row in e.rows:
        styles.append("red" if row.note or not abs(row.error_ulps) <= 1 else None)
        shown = "–" if math.isnan(row.error_ulps) else f"{row.error_ulps:+.6g}"
        value = f"{row.value:.8g}" if row.bits else "–"
        rows.append([row.implementation, row.execution, value, row.bits, shown])
    print_table(console, columns, rows, keys=2, styles=styles, notes=[row.note for row in e.rows])
    if legend_of := legend([e.region]):
        print_text(console, legend_of, style="dim")
    used = {tuple(row.params.items()) for row in e.rows if row.params != e.params}
    if used:
        console.print(
            "Some implementations use other effective parameters; each is judged with its own.", style="dim"
        )


def print_measurements(console: Console, measurements: Sequence[Measurement]) -> None:
    """A table per output, a line per region."""
    for m in measurements:
        title = (
            f"{m.function}.{m.output}  {m.implementation} [{m.execution}]  {m.fmt}  {m.inputs} ({m.n_inputs})"
        )
        if m.failure is not None:
            title = title.rpartition("  ")[0]
            console.print(f"{title}: {m.failure.kind}: {m.failure.message}", style="red", soft_wrap=True)
            continue
        columns = [Column("region"), *numbers(
            "inputs", "max ulp", "mean ulp", "bias", "not\nrounded", "wrong\nsign", "inf/\nnan", "least\nbits"
        )]  # fmt: skip
        rows = [
            [
                region,
                str(s.n_inputs),
                number(s.max_ulp),
                number(s.mean_ulp),
                _signed(s.mean_signed_ulp),
                str(s.not_correctly_rounded),
                str(s.wrong_sign),
                str(s.nonfinite_mismatch),
                f"{max(0.0, s.min_correct_bits):.1f}",
            ]
            for region, s in m.regions.items()
        ]
        print_table(console, columns, rows, title=title)
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


def print_readiness(found: Readiness, console: Console) -> None:
    """Verdicts with their numbers, why not, what was looked at, and what to do, in 80 columns."""
    headings = ["forward", "gradient", "clipped"] + ["inputs"] * (found.linear_inputs is not None)
    rows = []
    for v in found.verdicts:
        figures = [f"{v.forward_noise:.2%}", f"{v.gradient_noise:.2%}", f"{v.clipped:.3%}"]
        if found.linear_inputs is not None:
            figures.append(f"{v.input_noise:.2%}")
        rows.append([v.recipe, v.verdict, *("–" if n.startswith("nan") else n for n in figures)])
    columns = [Column("recipe"), Column("verdict"), *numbers(*headings)]
    print_table(console, columns, rows, title=f"Readiness: {found.source}")
    words = {"forward": "noise of the stored activation", "gradient": "of its gradient",
             "inputs": "of the inputs of linear layers"}  # fmt: skip
    console.print("; ".join(f"{k}: {words[k]}" for k in headings if k in words))
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
    print_measurements(console, sweep.measurements)
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
    for name in ("state", "name"):
        table.add_column(name, no_wrap=True)
    table.add_column("detail", overflow="fold")
    for check in checks:
        table.add_row(words[check.ok], check.name, check.detail)
    console.print(table)
    console.print("  ".join(f"{name} {value}" for name, value in record.items()), style="dim")
