"""How each way in which a command fails ends: an exit code, and one sentence on stderr."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from precision_lab.exceptions import UsageError
from precision_lab.system.text import plain

P = ParamSpec("P")
R = TypeVar("R")

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
            InternalError,
            MissingPackageError,
            PrecisionLabError,
        )

        try:
            return command(*args, **kwargs)
        except InternalError as error:
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
