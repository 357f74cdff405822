"""The commands `predict` and `check-predictions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import DeviceOption
from precision_lab.cli.progress import ProgressBars


@clear_errors
def predict(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    device: DeviceOption = "sm_90",
    function: Annotated[
        list[str] | None, typer.Option("--function", help="Default: those of the report; may be repeated.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Default: all; may be repeated.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compiled/--no-compiled", help="Also what torch.compile makes.")
    ] = True,
) -> None:
    """Write the bits that every GPU kernel of the lab returns at all 2^16 inputs, by its PTX.

    With the inputs at which the device decides, by instruction. `check-predictions` holds a real device
    against the file.
    """
    from precision_lab.study.predictions import predict as predicted
    from precision_lab.study.settings import StudySettings

    settings = StudySettings(
        device=device,
        functions=tuple(function or ()),
        compiled=compiled,
        timing=False,
        reductions=False,
        initial_only=True,
    )
    with ProgressBars() as progress:
        found, without = predicted(settings, progress, outputs=output)
    found.write(out)
    for key, why in without.items():
        typer.echo(f"no prediction of {key}: {why}")
    open_ = sum(int(p.open.sum()) for p in found.entries.values())
    unknown = sum(bool(p.unknown) for p in found.entries.values())
    typer.echo(
        f"{out}: {len(found.entries)} outputs of {len({k.label for k in found.entries})} kernels; "
        f"{open_:,} of {len(found.entries) * 2**16:,} results are the device's to choose"
        + (f"; of {unknown} outputs that is not known" if unknown else "")
    )


@clear_errors
def check_predictions(
    file: Annotated[Path, typer.Argument(help="A file that `predict` wrote.")],
    device: DeviceOption = "cuda",
) -> None:
    """Run the predicted kernels on a real device, and say which instruction explains each difference.

    Exit code 0: every bit is as predicted, or the device's to choose. 1: some are not, or nobody knows.
    2: wrong use.
    """
    from precision_lab.devices import get_device
    from precision_lab.measuring.prediction_file import Predictions
    from precision_lab.study.predictions import check

    predictions = Predictions.read(file)
    with ProgressBars() as progress:
        found = check(predictions, get_device(device), progress)
    typer.echo(", ".join(f"{name} {value}" for name, value in predictions.about.items()))
    for row in found:
        if row.comparison is None:
            typer.echo(f"{row.key}: not compared: {row.failure}")
        elif row.comparison.differing:
            why = ", ".join(f"{count} by {name}" for name, count in row.comparison.explained.items())
            left = row.comparison.unexplained_count
            first = ", ".join(f"{bits:#06x}" for bits in row.comparison.unexplained)
            told = [f"explained: {why}"] * bool(why) + [f"unexplained: {left}, at {first}"] * bool(left)
            if open_ := row.comparison.undecided:
                told.append(f"undecided: {open_}, {predictions.entries[row.key].unknown}")
            typer.echo(f"{row.key}: {row.comparison.differing} results differ; {'; '.join(told)}")
    holding = sum(row.holds for row in found)
    typer.echo(f"{holding} of {len(found)} outputs are as predicted")
    if holding < len(found):
        raise typer.Exit(1)
