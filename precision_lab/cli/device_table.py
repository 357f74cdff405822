"""The commands `device-table` and `device-tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precision_lab.cli.errors import clear_errors

SHOWN = 5  # results beyond the manual's bound that are printed


@clear_errors
def device_table(
    instruction: Annotated[str, typer.Argument(help="Such as ex2.approx.f32 or tanh.approx.bf16.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    ftz: Annotated[bool, typer.Option("--ftz", help="The variant that flushes subnormals.")] = False,
) -> None:
    """Measure what a CUDA device returns for an approximate instruction, for all inputs, and check the bound.

    Exit code 0: every result is within the manual's bound. 1: some are not. 2: wrong use, or no device.
    """
    from precision_lab.emulator.device_measure import measure_on_cuda
    from precision_lab.emulator.device_table import DeviceTable

    header = measure_on_cuda(instruction, ftz, out)
    beyond = DeviceTable.load(out).violations(SHOWN)
    typer.echo(f"{out}: {header.op} of {header.device}, {header.stop - header.start} inputs")
    for violation in beyond:
        typer.echo(f"beyond the manual's bound: {violation}")
    if beyond:
        raise typer.Exit(1)


@clear_errors
def device_tables(
    folder: Annotated[Path, typer.Argument(help="Where the tables go; --device-table reads the folder.")],
) -> None:
    """Measure every approximate instruction on a CUDA device, for all inputs, and check the bounds.

    Some gigabytes and minutes. Tables that are there already stay. Exit code 0: every result is within the
    manual's bound. 1: some are not. 2: wrong use, or no device.
    """
    from precision_lab.emulator.device_measure import file_of, measure_all_on_cuda
    from precision_lab.emulator.device_table import DeviceTable

    beyond = 0
    for header, measured in measure_all_on_cuda(folder):
        path = folder / file_of(header.op, header.ftz)
        found = DeviceTable.load(path).violations(SHOWN)
        beyond += len(found)
        how = "" if measured else ", which was there"
        typer.echo(f"{path}: {header.op} of {header.device}, {header.stop - header.start} inputs{how}")
        for violation in found:
            typer.echo(f"beyond the manual's bound: {violation}")
    if beyond:
        raise typer.Exit(1)
