"""What the lab knows, as data and as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from precision_lab.devices import CPU


def catalogue() -> dict[str, Any]:
    """Functions, formats and implementations as plain data."""
    from precision_lab.formats import FORMATS
    from precision_lab.functions import FUNCTIONS
    from precision_lab.implementations import IMPLEMENTATIONS

    return {
        "functions": {
            f.name: {
                "formula": f.formula,
                "source": f.source,
                "outputs": list(f.outputs),
                "raw_outputs": list(f.raw_outputs),
                "parameter_sets": {name: dict(values) for name, values in f.parameter_sets.items()},
            }
            for f in FUNCTIONS.values()
        },
        "formats": {
            f.name: f.description + ("" if f.for_kernels else "; no kernel is measured in it")
            for f in FORMATS.values()
        },
        "implementations": [
            {
                "function": i.function.name,
                "name": i.name,
                "execution": i.execution.name,
                "saturating": i.saturating,
                "formats": [fmt.name for fmt in i.formats],
                "devices": [d.kind for d in i.devices],
                "description": i.description,
            }
            for i in IMPLEMENTATIONS.values()
        ],
    }


def functions_page(data: dict[str, Any]) -> str:
    """The functions as a page in Markdown: docs/functions.md."""
    lines = [
        "# Functions",
        "",
        "Written by `precision-lab list --markdown docs/functions.md`. Each is one file in "
        "`precision_lab/functions/`,",
        "and one formula; its gradients, limits, roots and tables follow. Yours is measured alike:",
        "`--function my_functions.py:NAME`.",
        "",
        "| name | formula | gradients for | source |",
        "|---|---|---|---|",
    ]
    for name, f in data["functions"].items():
        gradients = ", ".join(output.removeprefix("grad_") for output in f["outputs"][1:])
        cells = (text.replace("|", "\\|") for text in (f["formula"], gradients, f["source"]))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _elsewhere(implementation: dict[str, Any]) -> str:
    return ", ".join(kind.upper() for kind in implementation["devices"])


def print_catalogue(data: dict[str, Any], console: Console) -> None:
    table = Table(title="functions", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("name", "formula", "gradients", "parameter sets"):
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for name, f in data["functions"].items():
        gradients = " ".join(output.removeprefix("grad_") for output in f["outputs"][1:])
        table.add_row(name, f["formula"], gradients, ", ".join(f["parameter_sets"]))
    console.print(table)
    table = Table(title="formats", title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("description", overflow="fold")
    for name, description in data["formats"].items():
        table.add_row(name, description)
    console.print(table)
    table = Table(title="implementations", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("function", "name", "executions", "what it is"):
        table.add_column(name, no_wrap=name in ("function", "name"), overflow="fold")
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for i in data["implementations"]:
        executions = grouped.setdefault((i["function"], i["name"], i["description"]), [])
        execution = i["execution"] if CPU.kind in i["devices"] else f"{i['execution']} ({_elsewhere(i)})"
        if execution not in executions:
            executions.append(execution)
    for (function, name, description), executions in grouped.items():
        table.add_row(function, name, ", ".join(executions), description)
    console.print(table)
