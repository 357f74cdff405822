"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import (
    DeviceOption,
    EmulatorOption,
    FormatsOption,
    JsonOption,
    TablesOption,
    chosen_device,
    refuse_ignored,
)
from precision_lab.cli.output import Outputs, kept_on_interrupt
from precision_lab.cli.progress import ProgressBars
from precision_lab.exceptions import UsageError


@clear_errors
def report(
    context: typer.Context,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Four functions, 16-bit formats: some 25 s on two cores the first time, 10 s afterwards.",
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.md and report.json.")
    ] = Path("report"),
    formats: FormatsOption = None,
    function: Annotated[
        list[str] | None, typer.Option("--function", help="Activation; may be repeated.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compiled/--no-compiled", help="Also run torch.compile.")
    ] = True,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Also time the implementations.")
    ] = True,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="All 2^32 inputs of fp32: a minute or more per implementation."),
    ] = False,
    device: DeviceOption = "cpu",
    emulator: EmulatorOption = None,
    device_table: TablesOption = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Also report this folder of `precision-lab probe`.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Rebuild the report from this report.json; measures nothing."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished report in --out.")
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            help="TOML file: what is measured and shown first, in which order; see docs/profile.md.",
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Measure the registered implementations and write the precision report."""
    from precision_lab.cli.printing import console_for
    from precision_lab.report import check_directory, print_summary, read_results, write_report

    check_directory(out)
    outputs = Outputs({"--json": json_path})
    if source is not None:
        refuse_ignored(context, "--from, which measures nothing", {"out", "source", "json_path"})
        results = read_results(source)
    else:
        from precision_lab.results.profile import DEFAULT
        from precision_lab.study.profile import read_profile
        from precision_lab.study.saved_cases import Cases
        from precision_lab.study.settings import StudySettings
        from precision_lab.study.study import run_through

        settings = StudySettings(
            quick, tuple(function or ()), tuple(formats or ()), compiled, timing,
            exhaustive=exhaustive,
            device=chosen_device(device, emulator, device_table).name,
            probe=None if probe is None else str(probe),
            profile=DEFAULT if profile is None else read_profile(profile),
        )  # fmt: skip
        if not settings.chosen_functions():
            raise UsageError(f"no registered implementation computes {', '.join(function or ())}")
        cases = Cases(out, settings, resume=resume)
        with ProgressBars() as progress, kept_on_interrupt(cases.words()):
            results = run_through(settings, progress, cases=cases)
    console = console_for(stderr=outputs.to_stderr)
    arrived = outputs.deliver(
        lambda: print_summary(results, console), {"--json": lambda: results.dumps() + "\n"}
    )
    written = write_report(results, out)
    for kind in ("html", "markdown", "json"):  # which lead to all else that was written
        console.print(f"{kind}: {written[kind]}", soft_wrap=True)
    if source is None:
        cases.remove()  # report.json has them all
    if results.lost:
        typer.echo(f"precision-lab: the report is incomplete: {results.lost}", err=True)
        raise typer.Exit(1)
    if any(m.undecided for m in results.measurements):
        typer.echo("precision-lab: some inputs are undecided; the report names them", err=True)
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)
