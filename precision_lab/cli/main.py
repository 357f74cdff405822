"""The command `precision-lab`: thin commands over measuring, verifying, golden tables and reports.

Everything heavy is imported inside the commands, so that help costs no torch.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from precision_lab import __version__
from precision_lab.cli.cost import cost
from precision_lab.cli.device_table import device_table, device_tables
from precision_lab.cli.explain import explain
from precision_lab.cli.inventory import list_, selfcheck, tables
from precision_lab.cli.lowprecision import probe, readiness
from precision_lab.cli.predict import check_predictions, predict
from precision_lab.cli.report import report
from precision_lab.cli.sweep import sweep
from precision_lab.cli.terminal import wants_no_escapes
from precision_lab.cli.verify import verify
from precision_lab.exceptions import did_you_mean

# What commands are called elsewhere.
_CALLED = {
    **dict.fromkeys(
        ("check", "test", "validate", "run", "measure", "compare", "accuracy", "ulp"), ("verify",)
    ),
    **dict.fromkeys(("bench", "benchmark", "time", "profile", "speed"), ("cost", "report")),
    **dict.fromkeys(("show", "why", "replay", "evaluate", "eval"), ("explain",)),
    **dict.fromkeys(("functions", "formats", "implementations", "ls"), ("list",)),
    **dict.fromkeys(("fp8", "recipe", "recipes", "train", "training"), ("readiness", "probe")),
    **dict.fromkeys(("doctor", "env", "environment", "info"), ("selfcheck",)),
    "version": ("--version",),
    "help": ("--help",),
}


class _Commands(TyperGroup):
    """The commands; of one that there is not, the message names those that may have been meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if ":" in name or name.endswith(".py"):
                hint = f"did you mean precision-lab verify {name} --function FUNCTION?"
            else:
                hint = did_you_mean(name, self.commands, _CALLED)
            ctx.fail(f"No such command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="precision-lab",
    cls=_Commands,
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


for command in (report, explain, verify, cost, sweep, tables):
    app.command()(command)
app.command(name="list")(list_)
app.command(name="device-table")(device_table)
app.command(name="device-tables")(device_tables)
app.command()(predict)
app.command(name="check-predictions")(check_predictions)
for command in (selfcheck, readiness, probe):
    app.command()(command)


def _leave_cycles() -> None:
    """Nothing is searched for cycles in the end, unless Triton is there, which then tells of leaks."""
    if "triton._C.libtriton" not in sys.modules:
        gc.freeze()


def main() -> None:
    """Entry point; a user's own folder is importable, as with `python -m`."""
    # Python's search for cycles takes a sixth of the time of importing torch, and a third of a second in
    # the end, when everything goes in any case.
    gc.set_threshold(100_000)
    atexit.register(_leave_cycles)
    if wants_no_escapes():
        # numba has colorama, where that is installed, end every process with an escape code.
        os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    if "" not in sys.path:
        sys.path.insert(0, "")
    app()


if __name__ == "__main__":
    main()
