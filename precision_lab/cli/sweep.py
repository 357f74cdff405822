"""The command `sweep`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import (
    DeviceOption,
    EmulatorOption,
    FunctionArgument,
    JsonOption,
    LaunchOption,
    TablesOption,
    Values,
    chosen_device,
    grouped,
)
from precision_lab.cli.output import Outputs, json_text, kept_on_interrupt
from precision_lab.cli.progress import Rate


@dataclass(frozen=True)
class Shards:
    """What of a sweep is kept, and where."""

    shards: Annotated[int, typer.Option("--shards", help="Pieces, each kept when it is done.")] = 64
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the shards and measurements.json.")
    ] = None

    def words(self) -> str:
        """What is left of a sweep that is interrupted."""
        if self.out is None:
            return "nothing is kept without --out"
        return f"the shards that are done are kept in {self.out}; --resume goes on"


@clear_errors
@grouped
def sweep(
    function: FunctionArgument,
    implementation: Annotated[
        str,
        typer.Option("--implementation", help="Registered name such as 'naive [upcast]', or a TARGET."),
    ],
    values: Values,
    kept: Shards,
    fmt: Annotated[str, typer.Option("--format", help="Number format of up to 32 bits.")] = "fp32",
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Default: all; may be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads; one per core by default.")
    ] = None,
    max_ulp: Annotated[
        float | None,
        typer.Option("--max-ulp", help="Also hold every output to this bound."),
    ] = None,
    device: DeviceOption = "cpu",
    emulator: EmulatorOption = None,
    device_table: TablesOption = None,
    launch: LaunchOption = None,
    json_path: JsonOption = None,
) -> None:
    """Measure an implementation on every input of a format, all 2^32 of fp32, in resumable shards."""
    from precision_lab.cli.printing import console_for, print_sweep
    from precision_lab.formats import kernel_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import Called, with_launch
    from precision_lab.measuring.foretold import slow_inputs
    from precision_lab.measuring.sweep import Asked, sweep_target
    from precision_lab.running.own_process import on
    from precision_lab.verifying.bounds import Bound
    from precision_lab.verifying.judge import describe, judge

    outputs = Outputs({"--json": json_path})
    bound = None if max_ulp is None else Bound(max_ulp)
    source = kernel_format(fmt)
    place = chosen_device(device, emulator, device_table)
    place.check()
    asked = Asked(
        Called(with_launch(implementation, launch)), get_function(function), source, values.of(function),
        tuple(output) if output else None, "given" if values.param else values.params, place,
    )  # fmt: skip
    if source.bits == 32:
        for sentence in slow_inputs(
            asked.function,
            asked.outputs or asked.function.outputs,
            values.of(function),
            threads=workers or os.cpu_count() or 1,
        ):
            typer.echo(sentence, err=True)
    with Rate(fmt) as progress, kept_on_interrupt(kept.words()):
        found = on(
            asked.device, sweep_target, asked, shards=kept.shards, directory=kept.out, resume=kept.resume,
            workers=workers, progress=progress,
        )  # fmt: skip
    failures = (
        [] if bound is None else [describe(fault) for m in found.measurements for fault in judge(m, bound)]
    )
    show = partial(print_sweep, found, failures, console_for(stderr=outputs.to_stderr))
    arrived = outputs.deliver(show, {"--json": lambda: json_text(found.to_json())})
    if failures or any(m.undecided or m.failure for m in found.measurements):
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)
