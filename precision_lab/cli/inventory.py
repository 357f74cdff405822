"""The commands `tables`, `list` and `selfcheck`: what the lab holds, and where it runs."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import JsonOption, refuse_ignored
from precision_lab.cli.output import Outputs, json_text
from precision_lab.exceptions import DamagedFileError


@clear_errors
def tables(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to or to check.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check checksums and every row; writes nothing.")
    ] = False,
    function: Annotated[
        list[str] | None, typer.Option("--function", help="Only these; may be repeated.")
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Write the golden tables, or check the committed ones against the definitions."""
    from precision_lab.golden import tables as golden

    outputs = Outputs({"--json": json_path})
    folder = out or golden.tables_directory()
    if check:
        refuse_ignored(context, "--check, which checks every table", {"out", "check", "json_path"})
        try:
            rows = golden.check_tables(folder, os.cpu_count() or 1)
        except DamagedFileError as error:  # what was asked about, not wrong use
            typer.echo(f"precision-lab: {error}", err=True)
            raise typer.Exit(1) from error
        words, data = f"{rows} rows checked, all right", dict[str, Any](rows=rows)
    else:
        written = golden.write_tables(folder, function)
        words, data = f"{len(written)} tables written to {folder}", {"tables": [p.name for p in written]}
    show = partial(typer.echo, words, err=outputs.to_stderr)
    if not outputs.deliver(show, {"--json": lambda: json_text(data)}):
        raise typer.Exit(2)


@clear_errors
def list_(
    json_path: JsonOption = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the functions, their formulas and sources as a page here.")
    ] = None,
) -> None:
    """Functions, formats and implementations the lab knows."""
    from precision_lab.cli.catalogue import catalogue, functions_page, print_catalogue
    from precision_lab.cli.printing import console_for

    outputs = Outputs({"--json": json_path, "--markdown": markdown})
    data = catalogue()
    show = partial(print_catalogue, data, console_for(stderr=outputs.to_stderr))
    if not outputs.deliver(
        show, {"--json": lambda: json_text(data), "--markdown": lambda: functions_page(data)}
    ):
        raise typer.Exit(2)


@clear_errors
def selfcheck(json_path: JsonOption = None) -> None:
    """What this machine and process do to floating point; exit code 1 if it would change results."""
    from precision_lab.cli.printing import console_for, print_checks
    from precision_lab.running.selfcheck import check, environment

    outputs = Outputs({"--json": json_path})
    checks = check()
    record = environment()
    data = {"environment": record, "checks": [asdict(c) for c in checks]}
    show = partial(print_checks, checks, record, console_for(stderr=outputs.to_stderr))
    arrived = outputs.deliver(show, {"--json": lambda: json_text(data)})
    if any(c.ok is False for c in checks):
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)
