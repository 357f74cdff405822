"""The command `precision-lab`: thin commands over measure, verdict, golden and report.

Everything heavy is imported inside the commands, so that help costs no torch.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from precision_lab import __version__
from precision_lab.cli.lowprecision import probe, readiness
from precision_lab.cli.options import (
    DeviceOption,
    FormatsOption,
    FrameworkOption,
    FunctionArgument,
    JsonOption,
    MultipleOption,
    ParamOption,
    ProgressBars,
    SetOption,
    ShapesOption,
    clear_errors,
    parameters,
    read_shapes,
    refuse_ignored,
)
from precision_lab.cli.output import Outputs, check_writable, json_text, kept_on_interrupt
from precision_lab.exceptions import UsageError

app = typer.Typer(
    name="precision-lab",
    help="Is this activation kernel accurate enough for this number format? Measured against exact values.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"precision-lab {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Is this activation kernel accurate enough for this number format? Measured against exact values."""


def _point(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float.fromhex(text) if "0x" in text.lower() else float(text)
    except ValueError:
        raise UsageError(f"-x {text!r}: expected a number such as -1e-7 or -0x1.8p-24") from None


def _pattern(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text, 16)
    except ValueError:
        raise UsageError(f"--bits {text!r}: expected a hexadecimal pattern such as 0xb58d") from None


@app.command()
@clear_errors
def report(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four functions, 16-bit formats, under 20 s.")
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
            exhaustive=exhaustive, device=device, probe=None if probe is None else str(probe),
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
    for kind, path in write_report(results, out).items():
        console.print(f"{kind}: {path}", soft_wrap=True)
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


@app.command()
@clear_errors
def explain(
    function: FunctionArgument,
    x: Annotated[
        str | None,
        typer.Option("-x", "--x", help="Input, decimal or hexadecimal float; rounded to the format."),
    ] = None,
    bits: Annotated[str | None, typer.Option("--bits", help="Input as a bit pattern, e.g. 0xb58d.")] = None,
    fmt: Annotated[str, typer.Option("--format", help="Number format of the input.")] = "bf16",
    output: Annotated[str, typer.Option("--output", help="forward, grad_x, grad_alpha_n, …")] = "forward",
    params: SetOption = "init",
    param: ParamOption = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled",
            help="Run --kernel, or else also the lab's own, through torch.compile (slow at first).",
        ),
    ] = False,
    kernel: Annotated[
        str | None, typer.Option("--kernel", help="Also run this TARGET, as `verify` takes it.")
    ] = None,
    framework: FrameworkOption = None,
    multiple_of: MultipleOption = 1,
    shape: ShapesOption = None,
    device: DeviceOption = "cpu",
    json_path: JsonOption = None,
) -> None:
    """One input on one screen: exact value, conditioning, every implementation's value and error."""
    from precision_lab.cli.printing import console_for, print_explanation
    from precision_lab.devices import get_device
    from precision_lab.formats import get_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import find
    from precision_lab.implementations.contract import CallContract
    from precision_lab.measuring import explain as explaining
    from precision_lab.results.execution import EXECUTIONS

    outputs = Outputs({"--json": json_path})
    point, pattern = _point(x), _pattern(bits)
    executions = [e for e in EXECUTIONS.values() if not e.compiled or (compiled and kernel is None)]
    definition, source = get_function(function), get_format(fmt)
    values = parameters(function, params, param)
    own = None
    if kernel is not None:
        contract = CallContract(multiple_of, read_shapes(shape))
        own = find(kernel, definition, (source,), framework=framework, compiled=compiled)
        own = replace(own, contract=contract)
    elif framework is not None or multiple_of != 1 or shape:
        raise UsageError(
            "--framework, --multiple-of and --shape say how --kernel is called, and it is missing"
        )
    found = explaining.explain(
        definition,
        fmt=source,
        x=point,
        bits=pattern,
        output=output,
        params=values,
        executions=executions,
        kernel=own,
        device=get_device(device),
    )
    console = console_for(stderr=outputs.to_stderr)
    show = partial(print_explanation, found, console)
    if not outputs.deliver(show, {"--json": lambda: json_text(found.to_json())}):
        raise typer.Exit(2)


@app.command()
@clear_errors
def verify(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="package.module:attr, path/file.py:attr, path/lib.so:symbol, or a registered name."
        ),
    ],
    function: Annotated[str, typer.Option("--function", help="Activation that TARGET computes.")],
    formats: FormatsOption = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Default: all; may be repeated.")
    ] = None,
    max_ulp: Annotated[
        float | None,
        typer.Option("--max-ulp", help="Largest error allowed (default 1); 0.5 is correct rounding."),
    ] = None,
    bound: Annotated[
        Path | None, typer.Option("--bound", help="Bound file, such as precision.toml, instead.")
    ] = None,
    write_bound: Annotated[
        bool,
        typer.Option("--write-bound", help="Record what is measured in the bound file (precision.toml)."),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="Must not be worse than this implementation; `eager` for the usual one."
        ),
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="All 2^32 inputs of fp32 instead of a stratified set.")
    ] = False,
    properties: Annotated[
        str,
        typer.Option(
            "--properties",
            help="Engineering properties: all, none, or names with commas between them. "
            "All but compilation, which is examined by name or with --compiled.",
        ),
    ] = "all",
    laws: Annotated[
        bool, typer.Option("--laws", help="Also check laws for many parameters, with Hypothesis (slower).")
    ] = False,
    params: Annotated[
        str | None,
        typer.Option("--params", help="Named parameter set; default: all named ones and two random ones."),
    ] = None,
    param: ParamOption = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params-file", help="TOML file of named parameter sets, all to be measured."),
    ] = None,
    framework: FrameworkOption = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Run TARGET through torch.compile.")] = False,
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="A process of its own; default for TARGETs from outside, and on a GPU.",
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds without an answer that count as a hang.")
    ] = 120.0,
    multiple_of: MultipleOption = 1,
    shape: ShapesOption = None,
    finite: Annotated[
        bool, typer.Option("--finite", help="Leave infinite and NaN inputs and upstream gradients out.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Seconds for large calls (about 1); given, what does not fit is inconclusive."
        ),
    ] = None,
    loosen: Annotated[
        bool, typer.Option("--loosen", help="Let --write-bound record a worse kernel than before.")
    ] = False,
    device: DeviceOption = "cpu",
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML to this file.")] = None,
    json_path: JsonOption = None,
) -> None:
    """Measure and examine a kernel and hold it to a bound.

    Exit code 0: it holds. 1: the kernel fails, or the verdict is inconclusive. 2: wrong use. 3: the lab's
    own trouble.
    """
    from precision_lab.cli.parameter_file import read_parameter_sets
    from precision_lab.cli.printing import console_for, print_verdict
    from precision_lab.implementations.adapters.target import is_registered_name
    from precision_lab.results.faults import ENGINEERING
    from precision_lab.verifying import verdict as judging
    from precision_lab.verifying.bound_file import loosened, read, write
    from precision_lab.verifying.junit import junit_xml

    outputs = Outputs({"--json": json_path, "--junit": junit})
    if isolate is False or (isolate is None and device == "cpu" and is_registered_name(target)):
        everything = {str(parameter.name) for parameter in context.command.params}
        refuse_ignored(context, "a kernel that has no process of its own", everything - {"time_limit"})
    if write_bound and (max_ulp is not None or against is not None):
        raise UsageError("--write-bound records what is measured; it takes neither --max-ulp nor --against")
    if loosen and not write_bound:
        raise UsageError("--loosen goes with --write-bound")
    if params_file is not None and (param or params is not None):
        raise UsageError("--params-file names its own sets; it takes neither --params nor --param")
    sets: dict[str, dict[str, float]] | None = None
    if params_file is not None:
        sets = read_parameter_sets(params_file, function)
    elif params is not None or param:
        sets = {params if params and not param else "given": parameters(function, params or "init", param)}
    path = bound or Path("precision.toml")
    if write_bound:
        check_writable("--bound", path)
    if write_bound and path.exists():
        read(path)
    fmts = tuple(formats or ())
    if not fmts and bound is not None and not write_bound:
        fmts = read(bound).formats(function)
    chosen = {"all": True, "none": False}.get(properties) if properties in ("all", "none") else None
    interrupted = False
    try:
        with _Rate("fp32", quiet=not exhaustive) as progress:
            verdict = judging.verify(
                target,
                function,
                fmts=fmts or ("bf16",),
                outputs=tuple(output) if output else None,
                max_ulp=max_ulp,
                bound=None if write_bound else bound,
                params=sets,
                inputs="exhaustive" if exhaustive else None,
                properties=tuple(properties.split(",")) if chosen is None else chosen,
                against=against,
                framework=framework,
                compiled=compiled,
                isolate=isolate,
                time_limit=time_limit,
                progress=progress,
                promise=not write_bound,
                laws=laws,
                device=device,
                multiple_of=multiple_of,
                shapes=read_shapes(shape),
                finite=finite,
                budget=budget,
            )
    except judging.Interrupted as stop:
        verdict, interrupted = stop.verdict, True
    console = console_for(stderr=outputs.to_stderr)
    arrived = outputs.deliver(
        partial(print_verdict, verdict, console, brief=write_bound),
        {"--json": lambda: json_text(verdict.to_json()), "--junit": lambda: junit_xml(verdict)},
    )
    if interrupted:
        with kept_on_interrupt("what had been measured is judged above"):
            raise KeyboardInterrupt
    if write_bound:
        if verdict.outcome == "inconclusive":
            typer.echo(f"inconclusive: {path} is left as it was", err=True)
            raise typer.Exit(1)
        broken = tuple(f for f in verdict.faults if f.kind in ENGINEERING)
        changes = loosened(path, verdict.measurements, broken)
        for line in changes:
            typer.echo(line)
        if any(line.startswith("looser") for line in changes) and not loosen:
            typer.echo(f"{path} is left as it was; --loosen records a worse kernel", err=True)
            raise typer.Exit(1)
        write(path, verdict.measurements, broken)
        typer.echo(f"bounds of what was measured: {path}")
        return
    if not verdict.passed:
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)


@app.command()
@clear_errors
def sweep(
    function: FunctionArgument,
    implementation: Annotated[
        str,
        typer.Option("--implementation", help="Registered name such as 'naive [upcast]', or a TARGET."),
    ],
    fmt: Annotated[str, typer.Option("--format", help="Number format of up to 32 bits.")] = "fp32",
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Default: all; may be repeated.")
    ] = None,
    params: SetOption = "init",
    param: ParamOption = None,
    shards: Annotated[int, typer.Option("--shards", help="Pieces, each kept when it is done.")] = 64,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the shards and measurements.json.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads; one per core by default.")
    ] = None,
    max_ulp: Annotated[
        float | None,
        typer.Option("--max-ulp", help="Also hold every output to this bound."),
    ] = None,
    device: DeviceOption = "cpu",
    json_path: JsonOption = None,
) -> None:
    """Measure an implementation on every input of a format, all 2^32 of fp32, in resumable shards."""
    from precision_lab.cli.printing import console_for, print_sweep
    from precision_lab.devices import get_device
    from precision_lab.formats import get_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import find
    from precision_lab.measuring.sweep import sweep as run_sweep
    from precision_lab.running.case import case_of
    from precision_lab.running.placement import on_device
    from precision_lab.verifying.bounds import Bound
    from precision_lab.verifying.judge import describe, judge

    outputs = Outputs({"--json": json_path})
    bound = None if max_ulp is None else Bound(max_ulp)
    definition, source = get_function(function), get_format(fmt)
    chosen = on_device(find(implementation, definition, (source,)), get_device(device))
    case = case_of(
        chosen, source, parameters(function, params, param), tuple(output) if output else None,
        params_name=params if not param else "given",
    )  # fmt: skip
    kept = (
        "nothing is kept without --out"
        if out is None
        else f"the shards that are done are kept in {out}; --resume goes on"
    )
    with _Rate(fmt) as progress, kept_on_interrupt(kept):
        found = run_sweep(
            case, shards=shards, directory=out, resume=resume, workers=workers, progress=progress
        )
    failures = (
        [] if bound is None else [describe(fault) for m in found.measurements for fault in judge(m, bound)]
    )
    show = partial(print_sweep, found, failures, console_for(stderr=outputs.to_stderr))
    arrived = outputs.deliver(show, {"--json": lambda: json_text(found.to_json())})
    if failures or any(m.undecided or m.failure for m in found.measurements):
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)


class _Rate:
    """One progress bar in inputs, with rate and time left, on stderr."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._bar.add_task(name, total=None, rate="")
        self._start: tuple[float, int] | None = None

    def __enter__(self) -> _Rate:
        self._bar.__enter__()
        return self

    def __call__(self, done: int, total: int) -> None:
        import time

        now = time.perf_counter()
        if self._start is None:  # what a resumed sweep had done already is no rate
            self._start = (now, done)
        seconds, fresh = now - self._start[0], done - self._start[1]
        rate = f"{fresh / seconds / 1e6:.0f} M inputs/s" if seconds > 0.5 and fresh else ""
        self._bar.update(self._task, completed=done, total=total, rate=rate)

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)


@app.command()
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
    from precision_lab.exceptions import DamagedFileError
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


@app.command(name="list")
@clear_errors
def list_(json_path: JsonOption = None) -> None:
    """Functions, formats and implementations the lab knows."""
    from precision_lab.cli.printing import catalogue, console_for, print_catalogue

    outputs = Outputs({"--json": json_path})
    data = catalogue()
    show = partial(print_catalogue, data, console_for(stderr=outputs.to_stderr))
    if not outputs.deliver(show, {"--json": lambda: json_text(data)}):
        raise typer.Exit(2)


@app.command()
@clear_errors
def selfcheck(json_path: JsonOption = None) -> None:
    """What this machine and process do to floating point; exit code 1 if it would change results."""
    from dataclasses import asdict

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


app.command()(readiness)
app.command()(probe)


def main() -> None:
    """Entry point; a user's own folder is importable, as with `python -m`."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    app()
