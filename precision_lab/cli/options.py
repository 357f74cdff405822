"""Options and habits that commands share; cheap to import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from precision_lab.devices import kinds
from precision_lab.exceptions import UsageError
from precision_lab.system.text import plain

P = ParamSpec("P")
R = TypeVar("R")

FunctionArgument = Annotated[
    str, typer.Argument(help="Activation, e.g. xielu; `precision-lab list` names them.")
]
_DEVICES = ", ".join(kind.spelling for kind in kinds()).replace("'", "")
FormatsOption = Annotated[list[str] | None, typer.Option("--format", help="Number format; may be repeated.")]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the result as JSON to this file (-: standard output)."),
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE, e.g. alpha_n=0.8; may be repeated.")
]
DeviceOption = Annotated[str, typer.Option("--device", help=f"Where kernels run and are scored: {_DEVICES}.")]
FrameworkOption = Annotated[
    str | None, typer.Option("--framework", help="torch, numpy, jax or mlx, where not recognised.")
]
MultipleOption = Annotated[
    int, typer.Option("--multiple-of", help="The kernel takes only multiples of so many elements.")
]
ShapesOption = Annotated[
    list[str] | None,
    typer.Option("--shape", help="It takes only this shape, * for any size: '*,4096'; may be repeated."),
]
SetOption = Annotated[str, typer.Option("--params", help="Named parameter set of the function.")]


INTERRUPTED = 130  # as a shell has it: 128 and the signal's number


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Each way a command fails has its exit code and one sentence on stderr.

    1: the kernel's fault, or undecided. 2: wrong use, which has exceptions of its own, or a file that the
    user named. 3: anything else is the lab's own trouble, whatever its type; its traceback is kept in a
    file, which the sentence names. 130: Ctrl-C.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        from precision_lab.exceptions import (
            DamagedFileError,
            EnvironmentAltersResultsError,
            LabError,
            MissingPackageError,
            PrecisionLabError,
        )

        try:
            return command(*args, **kwargs)
        except LabError as error:
            _own_trouble(str(error), error.trace)
            raise typer.Exit(3) from error
        except (UsageError, MissingPackageError, DamagedFileError, EnvironmentAltersResultsError) as error:
            _say(str(error))
            raise typer.Exit(2) from error
        except PrecisionLabError as error:  # the kernel's, or the oracle could not decide
            _say(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            _say("; ".join(["interrupted", *getattr(stop, "__notes__", ())]))
            raise typer.Exit(INTERRUPTED) from stop
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise  # how a command ends early
            if isinstance(error, OSError) and _is_users(error, [*args, *kwargs.values()]):
                _say(str(error))
                raise typer.Exit(2) from error
            import traceback

            _own_trouble(f"{type(error).__name__}: {error}", traceback.format_exc())
            raise typer.Exit(3) from error

    return wrapper


def _own_trouble(message: str, trace: str) -> None:
    """Says that the fault is the lab's, and where the traceback is."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="precision-lab-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(trace)
        where = f"the traceback is in {file.name}"
    except OSError as error:
        where = f"the traceback could not be kept ({error}):\n{trace}"
    _say(f"the lab's own trouble, not the kernel's: {message}; {where}")


def _say(words: str) -> None:
    typer.echo(f"precision-lab: {plain(words)}", err=True)


def _is_users(error: OSError, arguments: list[Any]) -> bool:
    """Whether an operating system's error is about a path that an argument names, or one below it."""
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    place = None if not isinstance(error.filename, str) else Path(error.filename).absolute()
    return place is not None and any(place.is_relative_to(path.absolute()) for path in paths)


def refuse_ignored(context: typer.Context, why: str, allowed: set[str]) -> None:
    """Refuses options that were given and that a command would not heed.

    Args:
        allowed: names of the parameters that it does heed.

    Raises:
        UsageError: names the first of them.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} has no effect with {why}; leave it out")


def parameters(function: str, set_name: str, pairs: list[str] | None) -> dict[str, float]:
    """The named set with single values replaced.

    Raises:
        ValueError: an unknown set, or a pair that is not NAME=NUMBER.
    """
    from precision_lab.exceptions import unknown_name
    from precision_lab.functions import get_function

    definition = get_function(function)
    if set_name not in definition.parameter_sets:
        raise unknown_name(f"parameter set of {function}", set_name, definition.parameter_sets)
    values = dict(definition.parameter_sets[set_name])
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        try:
            values[name] = float(text)
        except ValueError:
            raise UsageError(f"--param {pair!r}: expected NAME=NUMBER, such as alpha_n=0.8") from None
        if not equals:
            raise UsageError(f"--param {pair!r}: expected NAME=NUMBER, such as alpha_n=0.8")
    return definition.check_params(values)


def read_shapes(patterns: list[str] | None) -> tuple[tuple[int | None, ...], ...]:
    """The patterns of `--shape`.

    Raises:
        ValueError: as `contract.read_shape`.
    """
    from precision_lab.implementations.contract import read_shape

    return tuple(read_shape(text) for text in patterns or ())


class ProgressBars:
    """A progress bar per stage, on stderr."""

    def __enter__(self) -> ProgressBars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._bars.__enter__()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def __exit__(self, *details: Any) -> None:
        self._bars.__exit__(*details)
