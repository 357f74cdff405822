"""The command `verify`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.function_option import FunctionOption, function_of
from precision_lab.cli.options import (
    Call,
    FormatsOption,
    JsonOption,
    ParamOption,
    grouped,
    parameters,
    read_shapes,
    refuse_ignored,
)
from precision_lab.cli.output import Outputs, check_writable, json_text, kept_on_interrupt
from precision_lab.cli.progress import Rate
from precision_lab.exceptions import UsageError

if TYPE_CHECKING:
    from precision_lab.verifying.verdict import Verdict

DEFAULT_BOUND = Path("precision.toml")


@dataclass(frozen=True)
class Subject:
    """What is verified: a function's kernel, in which formats, for which outputs."""

    function: FunctionOption = None
    formats: FormatsOption = None
    output: Annotated[list[str] | None, typer.Option("--output", help="Default: all; may be repeated.")] = (
        None
    )


@dataclass(frozen=True)
class Promise:
    """What it is held to, or what is recorded of it."""

    max_ulp: Annotated[
        float | None,
        typer.Option("--max-ulp", help="Largest error allowed (default 1); 0.5 is correct rounding."),
    ] = None
    bound: Annotated[
        Path | None, typer.Option("--bound", help="Bound file, such as precision.toml, instead.")
    ] = None
    write_bound: Annotated[
        bool,
        typer.Option("--write-bound", help="Record what is measured in the bound file (precision.toml)."),
    ] = False
    loosen: Annotated[
        bool, typer.Option("--loosen", help="Let --write-bound record a worse kernel than before.")
    ] = False
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="Must not be worse than this implementation; `eager` for the usual one."
        ),
    ] = None

    @property
    def path(self) -> Path:
        """The bound file that is written."""
        return self.bound or DEFAULT_BOUND

    def check(self) -> None:
        """Raises UsageError where options contradict each other, or the file cannot be written or read."""
        from precision_lab.verifying.bound_file import read

        if self.write_bound and (self.max_ulp is not None or self.against is not None):
            raise UsageError(
                "--write-bound records what is measured; it takes neither --max-ulp nor --against"
            )
        if self.loosen and not self.write_bound:
            raise UsageError("--loosen goes with --write-bound")
        if self.write_bound:
            check_writable("--bound", self.path)
            if self.path.exists():
                read(self.path)

    def formats(self, function: str) -> tuple[str, ...]:
        """Those that the bound file it is held to has for a function."""
        from precision_lab.verifying.bound_file import read

        return () if self.bound is None or self.write_bound else read(self.bound).formats(function)


@dataclass(frozen=True)
class Examined:
    """What is looked at beside the accuracy of single results, and at which inputs."""

    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="All 2^32 inputs of fp32 instead of a stratified set.")
    ] = False
    finite: Annotated[
        bool, typer.Option("--finite", help="Leave infinite and NaN inputs and upstream gradients out.")
    ] = False
    properties: Annotated[
        str,
        typer.Option(
            "--properties",
            help="Engineering properties: all, none, or names with commas between them. "
            "All but compilation, which is examined by name or with --compiled.",
        ),
    ] = "all"
    laws: Annotated[
        bool, typer.Option("--laws", help="Also check laws for many parameters, with Hypothesis (slower).")
    ] = False
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Seconds for large calls (about 1); given, what does not fit is inconclusive."
        ),
    ] = None

    def names(self) -> tuple[str, ...] | bool:
        """As `precision_lab.verify` takes the properties."""
        if self.properties in ("all", "none"):
            return self.properties == "all"
        return tuple(self.properties.split(","))


@dataclass(frozen=True)
class ParameterSets:
    """At which parameter values."""

    params: Annotated[
        str | None,
        typer.Option("--params", help="Named parameter set; default: all named ones and two random ones."),
    ] = None
    param: ParamOption = None
    params_file: Annotated[
        Path | None,
        typer.Option("--params-file", help="TOML file of named parameter sets, all to be measured."),
    ] = None

    def of(self, function: str) -> dict[str, dict[str, float]] | None:
        """Values by the name of their set; None where nothing is asked for.

        Raises:
            UsageError: options that contradict each other, or an unknown set or parameter.
        """
        from precision_lab.cli.parameter_file import read_parameter_sets

        if self.params_file is not None:
            if self.param or self.params is not None:
                raise UsageError("--params-file names its own sets; it takes neither --params nor --param")
            return read_parameter_sets(self.params_file, function)
        if self.params is None and not self.param:
            return None
        name = self.params if self.params and not self.param else "given"
        return {name: parameters(function, self.params or "init", self.param)}


@dataclass(frozen=True)
class Isolation:
    """In which process."""

    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="A process of its own; default for TARGETs from outside, and on a GPU.",
        ),
    ] = None
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds without an answer that count as a hang.")
    ] = 120.0


@clear_errors
@grouped
def verify(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="package.module:attr, path/file.py:attr, path/lib.so:symbol, or a registered name."
        ),
    ],
    subject: Subject,
    promise: Promise,
    examined: Examined,
    sets: ParameterSets,
    call: Call,
    isolation: Isolation,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every region, parameter set and finding, the tails too.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML to this file.")] = None,
    json_path: JsonOption = None,
) -> None:
    """Measure and examine a kernel and hold it to a bound.

    Exit code 0: it holds. 1: the kernel fails, or the verdict is inconclusive. 2: wrong use. 3: the lab's
    own trouble.
    """
    from precision_lab.running.own_process import prepare

    place = call.place
    function = function_of(target, subject.function)
    if (":" in target or target.endswith(".py")) and isolation.isolate is not False:
        # Both processes import torch, which takes a second: at the same time.
        prepare("precision_lab.verifying.kernel_process", place, place.name if place.own_process else "")
    from precision_lab.cli.print_verdict import print_verdict
    from precision_lab.cli.printing import console_for
    from precision_lab.devices import CPU
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import is_registered_name, with_launch
    from precision_lab.verifying import verify as judging
    from precision_lab.verifying.collect import Interrupted
    from precision_lab.verifying.junit import junit_xml
    from precision_lab.verifying.summary import verdict_json

    outputs = Outputs({"--json": json_path, "--junit": junit})
    target = with_launch(target, call.launch)
    at_home = place == CPU and is_registered_name(target)
    if isolation.isolate is False or (isolation.isolate is None and at_home):
        names = {str(parameter.name) for parameter in context.command.params}
        refuse_ignored(context, "a kernel that has no process of its own", names - {"time_limit"})
    promise.check()
    asked = sets.of(function)
    interrupted = False
    if examined.exhaustive:
        from precision_lab.measuring.foretold import slow_inputs  # which compiles, as fp32 does

        definition = get_function(function)
        for sentence in slow_inputs(
            definition, subject.output or definition.outputs, definition.check_params()
        ):
            typer.echo(sentence, err=True)
    try:
        with Rate("fp32", quiet=not examined.exhaustive) as progress:
            verdict = judging.verify(
                target,
                function,
                fmts=tuple(subject.formats or ()) or promise.formats(function) or ("bf16",),
                outputs=tuple(subject.output) if subject.output else None,
                max_ulp=promise.max_ulp,
                bound=None if promise.write_bound else promise.bound,
                params=asked,
                inputs="exhaustive" if examined.exhaustive else None,
                properties=examined.names(),
                against=promise.against,
                framework=call.framework,
                compiled=call.compilation,
                isolate=isolation.isolate,
                time_limit=isolation.time_limit,
                progress=progress,
                promise=not promise.write_bound,
                laws=examined.laws,
                device=place,
                multiple_of=call.multiple_of,
                shapes=read_shapes(call.shape),
                finite=examined.finite,
                budget=examined.budget,
            )
    except Interrupted as stop:
        verdict, interrupted = stop.verdict, True
    console = console_for(stderr=outputs.to_stderr)
    arrived = outputs.deliver(
        partial(print_verdict, verdict, console, brief=promise.write_bound, everything=everything),
        {"--json": lambda: json_text(verdict_json(verdict)), "--junit": lambda: junit_xml(verdict)},
    )
    if interrupted:
        with kept_on_interrupt("what had been measured is judged above"):
            raise KeyboardInterrupt
    if promise.write_bound:
        _record(verdict, promise.path, loosen=promise.loosen)
    elif not verdict.passed:
        raise typer.Exit(1)
    elif not arrived:
        raise typer.Exit(2)


def _record(verdict: Verdict, path: Path, *, loosen: bool) -> None:
    """What was measured, into the bound file, unless it is worse than what stands there."""
    from precision_lab.results.codes import ENGINEERING
    from precision_lab.verifying.bound_file import loosened, write

    if verdict.outcome == "inconclusive":
        typer.echo(f"inconclusive: {path} is left as it was", err=True)
        raise typer.Exit(1)
    broken = tuple(f for f in verdict.faults if f.code in ENGINEERING)
    changes = loosened(path, verdict.measurements, broken)
    for line in changes:
        typer.echo(line)
    if any(line.startswith("looser") for line in changes) and not loosen:
        typer.echo(f"{path} is left as it was; --loosen records a worse kernel", err=True)
        raise typer.Exit(1)
    write(path, verdict.measurements, broken)
    typer.echo(f"bounds of what was measured: {path}")
