"""The commands `readiness` and `probe`; `cli` registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import (
    DeviceOption,
    JsonOption,
    ParamOption,
    SetOption,
    parameters,
)
from precision_lab.cli.output import Outputs, json_text, kept_on_interrupt
from precision_lab.cli.progress import ProgressBars
from precision_lab.exceptions import UsageError


@clear_errors
def readiness(
    function: Annotated[
        str | None, typer.Argument(help="Activation, e.g. xielu; not with --captured, which knows.")
    ] = None,
    set_name: SetOption = "init",
    param: ParamOption = None,
    captured: Annotated[
        Path | None, typer.Option("--captured", help="File written by precision_lab.capture(…).")
    ] = None,
    distribution: Annotated[
        list[str] | None,
        typer.Option("--distribution", help="Modelled pre-activations; may be repeated. [normal, student-t]"),
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Standard deviation of modelled inputs.")] = 1.0,
    growth: Annotated[
        float,
        typer.Option("--growth", help="Times larger than delayed scaling has seen; 1 for a steady run."),
    ] = 1.0,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="May be repeated; all by default.")
    ] = None,
    path: Annotated[str, typer.Option("--path", help="fused, unfused or fp8-in.")] = "fused",
    formulation: Annotated[
        str, typer.Option("--formulation", help="Implementation, such as naive; or exact, correctly rounded.")
    ] = "exact",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for readiness.html, .md and .json: all the evidence.")
    ] = None,
    probe_folder: Annotated[
        Path | None,
        typer.Option("--probe", help="With --out: also report this folder of `probe`, or it alone."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Say for each low-precision recipe whether training so is safe, why not, and what to do.

    Exit code 0 if a recipe below BF16 that was asked for is ready; 1 if none is: at the limit at best, or
    what would be ready was not examined.
    """
    from typing import cast

    from precision_lab.cli.printing import console_for
    from precision_lab.functions import Activation, get_function
    from precision_lab.lowprecision.capture.captured import Captured
    from precision_lab.lowprecision.readiness.judging import READY
    from precision_lab.lowprecision.readiness.readiness import modelled_layers
    from precision_lab.lowprecision.readiness.readiness import readiness as judge
    from precision_lab.lowprecision.readiness.risk import from_capture
    from precision_lab.lowprecision.recipes.recipes import RECIPES
    from precision_lab.report import check_directory

    outputs = Outputs({"--json": json_path})
    if out is not None:
        check_directory(out)
    if probe_folder is not None and out is None:
        raise UsageError(f"--probe {str(probe_folder)!r} is reported with --out FOLDER; name one")
    if probe_folder is not None and out is not None and function is None and captured is None:
        _report_probe(probe_folder, out, console_for(stderr=outputs.to_stderr))
        return
    warnings: list[str] = []
    seen, values = None, {}
    if captured is not None:
        if function is not None or distribution or param or set_name != "init" or scale != 1.0:
            raise UsageError(
                f"--captured {str(captured)!r} holds functions, parameters and inputs; give it without "
                "FUNCTION, --params, --param, --distribution and --scale"
            )
        seen = Captured.load(captured)
        layers, left_out = from_capture(seen)
        warnings = [*seen.warnings(), *left_out]
        source = f"{captured.name}: {seen.model}, {seen.steps} steps"
    elif function is None:
        raise UsageError("FUNCTION is missing: name an activation, or give --captured FILE")
    else:
        values = parameters(function, set_name, param)
        chosen = distribution or ["normal", "student-t"]
        layers = modelled_layers(function, values, chosen, scale=scale)
        source = f"{function}, modelled: {', '.join(chosen)}"
    recipes = tuple(recipe or RECIPES)
    found = judge(
        layers, source=source, recipes=recipes, path=cast(Any, path), formulation=formulation, growth=growth,
        warnings=warnings, captured=seen, blocks=seen is not None,
    )  # fmt: skip
    console = console_for(stderr=outputs.to_stderr)
    data = found.to_json()
    arrived = outputs.deliver(lambda: _print(found, console), {"--json": lambda: json_text(data)})
    if out is not None:
        from precision_lab.report import write_lowprecision
        from precision_lab.study.lowprecision import function_json, probe_json

        if seen is None or captured is None:
            name, chosen_set = str(function), ", ".join([set_name, *(param or [])])
            about: dict[Activation, dict[str, float] | None] = {get_function(name): values}
            title = f"May {name} be trained below BF16?"
        else:
            name, chosen_set = seen.model, "captured"
            about = {t.function: None for t in layers}
            title = f"May the model of {captured.name} be trained below BF16?"
        everything: dict[str, Any] = {
            "readiness": [{"function": name, "params_name": chosen_set, "inputs": source, **data}],
            **function_json(about),
            "probe": None if probe_folder is None else probe_json(probe_folder),
        }
        written = write_lowprecision(everything, out, title)
        for kind in ("html", "markdown", "json"):  # which lead to all else that was written
            console.print(f"{kind}: {written[kind]}", soft_wrap=True)
    below = [v for v in found.verdicts if v.recipe not in ("fp32", "bf16")]
    states = {v.state for v in below or found.verdicts}
    if READY not in states:
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)


def _report_probe(folder: Path, out: Path, console: Any) -> None:
    """Writes what a probe has found so far, complete or not."""
    from precision_lab.report import write_lowprecision
    from precision_lab.study.lowprecision import probe_json

    everything = {"readiness": [], "maps": [], "blocks": [], "probe": probe_json(folder)}
    for kind, file in write_lowprecision(everything, out, f"The training probe of {folder.name}").items():
        console.print(f"{kind}: {file}", soft_wrap=True)


def _print(found: Any, console: Any) -> None:
    from precision_lab.cli.printing import print_readiness

    print_readiness(found, console)


@clear_errors
def probe(
    out: Annotated[Path, typer.Option("--out", help="Folder that results are kept in.")] = Path("probe"),
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file; docs/low-precision.md shows its keys.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Instead of --config: table-4, the paper's ablation; hours."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what the folder holds.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes of one thread; as many as cores.", min=1)
    ] = None,
    device: DeviceOption = "cpu",
    json_path: JsonOption = None,
) -> None:
    """Train small models of many activations through many recipes, and check the predicted risks by them."""
    from precision_lab.cli.printing import console_for
    from precision_lab.devices import usable_device
    from precision_lab.lowprecision.probe.prediction import summary
    from precision_lab.lowprecision.probe.presets import get_preset
    from precision_lab.lowprecision.probe.probe import ProbeConfig, read_config
    from precision_lab.lowprecision.probe.probe import probe as train

    outputs = Outputs({"--json": json_path})
    usable_device(device)
    if preset is not None and config is not None:
        raise UsageError(f"--preset {preset!r} and --config {str(config)!r}: give one of them")
    if preset is not None:
        chosen = get_preset(preset)
    else:
        chosen = ProbeConfig() if config is None else read_config(config)
    kept = f"the runs that are done, and checkpoints of others, are kept in {out}; --resume goes on"
    with ProgressBars(left=True) as bars, kept_on_interrupt(kept):
        found = train(
            out, chosen, workers=workers, device=device, resume=resume,
            on_run=lambda done, total, run: bars("runs", done, total),
        )  # fmt: skip
    console = console_for(stderr=outputs.to_stderr)

    def show() -> None:
        _print_probe(found, out, console)

    if not outputs.deliver(show, {"--json": lambda: json_text(summary(found))}):
        raise typer.Exit(2)


def _print_probe(found: Any, out: Path, console: Any) -> None:
    from precision_lab.lowprecision.probe.prediction import cells, rank_correlation
    from precision_lab.lowprecision.probe.probe import digest
    from precision_lab.report.sections.paper import orders, said

    diverged = sum(r["record"]["diverged_at"] is not None for r in found["runs"])
    console.print(f"{len(found['runs'])} runs, {diverged} diverged; results {digest(found)[:16]} in {out}")
    every = cells(found)
    if len(every) > 2:
        for measure, words in (("gap", "held-out loss gap"), ("distance", "distance of loss curves")):
            r = rank_correlation(every, measure)
            console.print(
                f"rank correlation of predicted risk and {words}: {r.value:.3f} "
                f"(95 %: {r.low:.3f} to {r.high:.3f}) over {r.cells} cells"
            )
    for table, order in orders([{**r["run"], **r["record"]} for r in found["runs"]])[1].items():
        if order is not None:
            console.print(said(table, order).replace("**", ""), soft_wrap=True)
    console.print(f"report it: precision-lab report --probe {out}", soft_wrap=True)


__all__ = ["probe", "readiness"]
