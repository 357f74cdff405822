"""The decision: which formulation to use, and the code of every one of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from precision_lab.report.decision import GRADE_WORDS, RULE, Cost, Recommendation, recommendations
from precision_lab.report.section import Cell, Code, Column, Fold, Formula, Part, Row, Section, Table, numeric
from precision_lab.report.tables import figure, level
from precision_lab.results import Results

Records = Mapping[tuple[str, str], Mapping[str, Any]]
UNKNOWN = "This report.json is of a version that kept no code of formulations: it shows their names alone."


def decision(results: Results) -> Section | None:
    """One row for each function and format, the leading functions first."""
    found = recommendations(results)
    if not found:
        return None
    lead = results.profile.lead
    first = [c for c in found if c.function in lead] or list(found)
    rest = [c for c in found if c not in first]
    records = _records(results)
    parts: list[Part] = [RULE, _words(results), _table(first, records)]
    parts += _to_paste(first, records)
    if not records:
        parts.append(UNKNOWN)
    if rest:
        count = len({c.function for c in rest})
        parts.append(Fold(f"The other {count} functions" if count > 1 else rest[0].function,
                          [_table(rest, records, digest=False)]))  # fmt: skip
    return Section("decision", "Which formulation to use", parts, nav="Decision", opening=True)


def _words(results: Results) -> str:
    """How the table is read."""
    sampled = any(m.inputs.startswith("stratified") for m in results.measurements)
    where = "GPU" if any(t.bandwidth_share is not None for t in results.timings) else "processor"
    parts = ["Worst errors are in ulps, over all parameter sets; 0.5 is correct rounding."]
    if sampled:
        parts.append("In fp32 they, and counts of inputs, are of a sample.")
    if results.timings:
        parts.append(
            f"Costs are factors of time on this {where}, forward / backward: beside torch's SiLU, and beside "
            "the formulation people start from (naive, where there is one)."
        )
    if results.costs:
        parts.append(
            'Where instructions were counted in machine code for a GPU, "sm_90 code" is their factor.'
        )
    return " ".join(parts)


def _table(chosen: Iterable[Recommendation], records: Records, *, digest: bool = True) -> Table:
    columns: list[str | Column] = [
        "function", "format", "use", "within 1 ulp", *numeric("forward", "gradients", unit="ulp"),
        "time × SiLU", "time × naive", "what breaks with the others",
    ]  # fmt: skip
    return Table(columns, [_row(c, records, digest) for c in chosen], dense=True)


def _row(c: Recommendation, records: Records, digest: bool) -> Row:
    record = records.get((c.function, c.implementation), {})
    link = _anchor(c.function, c.implementation) if record else ""
    code = str(record.get("code", ""))
    said = [_described(record, c.executions[0]), _paste(code)]
    said += [f"also {', '.join(c.executions[1:])}"] if len(c.executions) > 1 else []
    held = Cell(GRADE_WORDS[c.grade], lines=[("", c.broken)] if c.broken else ())
    return Row(
        [
            c.function,
            c.fmt,
            Cell(c.label, link=link, lines=[("", words) for words in said if words]),
            held,
            _worst(c.forward),
            Cell(figure(c.gradients), level(c.gradients), title=c.output) if c.output else "–",
            _costs(c.costs, "silu"),
            _costs(c.costs, "naive") if c.baseline else "–",
            Cell("" if c.others else "–", lines=list(c.others.items())),
        ],
        f"decision-{c.function}-{c.fmt}",
        digest,
    )


def _worst(value: float) -> str | Cell:
    return "–" if math.isnan(value) else Cell(figure(value), level(value))


def _paste(code: str) -> str:
    """A line of code, or that there are more where the name leads to."""
    lines = code.splitlines()
    return f"`{code}`" if len(lines) == 1 else f"{len(lines)} lines to paste" if lines else ""


def _costs(costs: Iterable[Cost], of: str) -> Cell:
    lines = []
    for cost in costs:
        forward, backward = getattr(cost, of)
        if math.isfinite(forward) or math.isfinite(backward):
            lines.append((cost.how, f"{_factor(forward)} / {_factor(backward)}"))
    return Cell("", lines=lines) if lines else Cell("not timed")


def _factor(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _to_paste(chosen: Iterable[Recommendation], records: Records) -> Iterator[Part]:
    """The code of what is recommended, each once; what is imported stands in the table."""
    keys = dict.fromkeys((c.function, c.implementation) for c in chosen)
    for function, name in keys:
        code = str(records.get((function, name), {}).get("code", ""))
        if len(code.splitlines()) > 1:
            yield Code(code, "python", f"{function} {name}, to paste")


def formulations(results: Results) -> Section | None:
    """Every function's equations, and every formulation that was measured with its code."""
    definitions = {d.get("name", d["title"]): d for d in results.settings.get("definitions") or ()}
    records = _records(results)
    if not definitions and not records:
        return None
    lead = results.profile.lead
    names = list(dict.fromkeys((*(f for f, _ in records), *definitions)))
    names.sort(key=lambda name: lead.index(name) if name in lead else len(lead))
    parts: list[Part] = [
        "Each function is one formula; its gradients were derived from that, in forms that do not cancel. "
        "Each formulation of it that was measured stands below with its code."
    ]
    for name in names:
        within: list[Part] = []
        definition = definitions.get(name)
        if definition is not None:
            within += [Formula(**equation) for equation in definition["equations"]]
        within += [_formulation(record) for (f, _), record in records.items() if f == name]
        title = definition["title"] if definition else name
        source = definition["source"] if definition else ""
        parts.append(Section(f"function-{name}", f"{title} ({source})" if source else title, within))
    return Section("definitions", "Functions and their formulations", parts, nav="Definitions")


def _formulation(record: Mapping[str, Any]) -> Part:
    said = [
        f"{words} ({', '.join(executions)})" if len(record["described"]) > 1 else words
        for words, executions in record["described"].items()
    ]
    words = f"{record['name']}: {'; '.join(said)}"
    return Code(record["code"], "python", words, _anchor(record["function"], record["name"]))


def _described(record: Mapping[str, Any], execution: str) -> str:
    """What is said of a formulation as it is executed so."""
    described: Mapping[str, list[str]] = record.get("described", {})
    return next((words for words, where in described.items() if execution in where), "")


def _anchor(function: str, name: str) -> str:
    return f"formulation-{function}-{name}".replace(" ", "-")


def _records(results: Results) -> Records:
    """What is known of each formulation, by function and name."""
    return {(r["function"], r["name"]): r for r in results.settings.get("formulations") or ()}


__all__ = ["decision", "formulations"]
