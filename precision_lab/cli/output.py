"""Where a command's results go: tried before anything is measured, printed first, written whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from precision_lab.exceptions import UsageError
from precision_lab.system.text import plain

STANDARD_OUTPUT = "-"


def is_standard_output(path: Path | None) -> bool:
    return str(path) == STANDARD_OUTPUT


class Outputs:
    """The files that options of a command name.

    Attributes:
        to_stderr: standard output is one of them, so that what is printed for people goes to stderr.
    """

    def __init__(self, paths: Mapping[str, Path | None]) -> None:
        """Tries each file, by its option.

        Raises:
            UsageError: one is a folder, has no folder to stand in, cannot be written, or is named twice.
        """
        self._paths = {option: path for option, path in paths.items() if path is not None}
        self.to_stderr = any(map(is_standard_output, self._paths.values()))
        places = [str(path if is_standard_output(path) else path.absolute()) for path in self._paths.values()]
        for option, path in self._paths.items():
            if not is_standard_output(path):
                check_writable(option, path)
            if places.count(places[list(self._paths).index(option)]) > 1:
                raise UsageError(f"{option} {str(path)!r}: another option names it as well")

    def deliver(self, show: Callable[[], None], contents: Mapping[str, Callable[[], str]]) -> bool:
        """Prints, then writes; what cannot be written is kept elsewhere, and said.

        Args:
            contents: what belongs in the file of each option, made when it is written.

        Returns:
            whether everything arrived where it was asked for.
        """
        arrived = _shown(show)
        for option, path in self._paths.items():
            text = contents[option]()
            try:
                _write(path, text)
            except OSError as error:
                arrived = False
                where = _keep_elsewhere(text, path.suffix or ".txt")
                _say(f"{option} {str(path)!r} could not be written ({error.strerror or error}); {where}")
        return arrived


def check_writable(option: str, path: Path) -> None:
    """Tries a file before anything is measured that belongs in it.

    Raises:
        UsageError: it is a folder, has no folder to stand in, or cannot be written; names option and file.
    """
    where = f"{option} {str(path)!r}"
    if path.is_dir():
        raise UsageError(f"{where}: is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{where}: its folder does not exist")
    try:
        if _is_special(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}-"):
                pass
    except OSError as error:
        raise UsageError(f"{where}: cannot be written: {error.strerror or error}") from error


def _is_special(path: Path) -> bool:
    """A device or a pipe: it has no whole to be moved into place."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def _write(path: Path, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if is_standard_output(path):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif _is_special(path):
        path.write_bytes(data)
    else:
        from precision_lab.system.atomic_file import write_atomically

        write_atomically(path, data)


def _shown(show: Callable[[], None]) -> bool:
    """Whether what is for people got to where it goes: a pipe may be closed, a disk full."""
    try:
        show()
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would fail again when the interpreter ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `| head` has read what it wanted
            _say(f"standard output could not be written ({error.strerror or error})")
        return isinstance(error, BrokenPipeError)
    return True


def _keep_elsewhere(text: str, suffix: str) -> str:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="precision-lab-", suffix=suffix, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        return f"it is kept in {file.name}"
    except OSError as error:
        return f"nor could it be kept elsewhere ({error.strerror or error})"


def _say(words: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(f"precision-lab: {plain(words)}", err=True)


def json_text(data: Any) -> str:
    """The document of `--json`: what was found, and what a result depends on."""
    from precision_lab import __version__
    from precision_lab.results import strict_json
    from precision_lab.running.selfcheck import environment

    about = {"precision_lab": __version__, "environment": environment()}
    return strict_json({**about, **data} if isinstance(data, dict) else data) + "\n"


@contextlib.contextmanager
def kept_on_interrupt(words: str) -> Iterator[None]:
    """On Ctrl-C inside the block, what was kept and how to go on is part of what is said."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(words)
        raise
