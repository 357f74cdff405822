"""The command `device-table`."""

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
