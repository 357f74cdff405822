"""The few exceptions a caller may want to catch; misuse raises built-ins."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class PrecisionLabError(Exception):
    """Base of every outcome a caller can handle."""


class UsageError(ValueError):
    """Wrong use: an argument, or a file that one names, is of no use; the message says which and why.

    A ValueError, as callers expect. That it is a kind of its own tells it from one that numpy, say, raises
    because of a mistake of the lab's.
    """


class WrongTypeError(UsageError, TypeError):
    """An argument of a type that is of no use; callers expect a TypeError."""


class DuplicateNameError(UsageError):
    """Two entries of a registry have one name."""


class MissingPackageError(ImportError):
    """A library that is asked for is not installed; the message says how to install it."""


class UndecidedError(PrecisionLabError):
    """No tier of the oracle could certify a value to the asked accuracy."""


class KernelError(PrecisionLabError):
    """A kernel under test raised, or returned something that is not its answer.

    `kind` is one of `codes.RUNNING`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[KernelError], tuple[str, str]]:
        return KernelError, (self.kind, str(self))


class DamagedFileError(PrecisionLabError):
    """A results, table or cache file does not hold what its checksum or schema says."""


class EnvironmentAltersResultsError(PrecisionLabError):
    """The process flushes subnormals to zero or otherwise changes IEEE arithmetic."""


class InternalError(PrecisionLabError):
    """The lab's own trouble, in this process or in a kernel's: no fault of the kernel, and no wrong use.

    Attributes:
        trace: the traceback, as text.
    """

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


class DeviceLostError(PrecisionLabError):
    """A kernel destroyed this process's CUDA context: nothing more can be measured on the GPU in it."""


def door(function: Callable[P, R]) -> Callable[P, R]:
    """A public function out of which only what is documented comes: anything else is an `InternalError`.

    A call that does not fit the signature is a TypeError, as of any function.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        signature.bind(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (PrecisionLabError, UsageError, MissingPackageError, OSError):
            raise
        except Exception as error:
            words = f"the lab's own trouble, not the kernel's: {type(error).__name__}: {first_line(error)}"
            raise InternalError(words, traceback.format_exc()) from error

    return wrapper


# Frames in these are not a kernel's own: the installation, the lab, and what runs before any code.
LIBRARIES = (sys.prefix, sys.base_prefix, str(Path(__file__).parent), "<frozen")


def place_of(error: BaseException) -> str:
    """Where in the kernel's own code an error was raised, " (file.py, line 9 in forward)"; "" elsewhere."""
    frames = _own_frames(error)
    if not frames:
        return ""
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno} in {frames[-1].name})"


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(LIBRARIES)]


def _source_line(error: BaseException) -> str:
    frames = _own_frames(error)
    return (frames[-1].line or "") if frames else ""


def kernel_error(error: BaseException, before: str = "") -> KernelError:
    """What a kernel raised, with the place in its code, as the lab's own exception."""
    words = first_line(error) or _source_line(error)  # a bare assertion says nothing itself
    return KernelError("raised", f"{before}{type(error).__name__}: {words}{place_of(error)}")


class _Owner:
    """Whose the process is: in one of the kernel's own, Ctrl-C never arrives."""

    kernels = False


def give_process_to_kernel() -> None:
    """From now on every exception, a KeyboardInterrupt too, is the kernel's."""
    _Owner.kernels = True


def raise_if_users(error: BaseException) -> None:
    """Raises what the user, and not the kernel, has caused: Ctrl-C.

    A kernel in this process that raises KeyboardInterrupt by itself cannot be told from that.
    """
    if isinstance(error, KeyboardInterrupt) and not _Owner.kernels:
        raise error


def first_line(error: BaseException) -> str:
    """The first line of what an error says; empty where it says nothing."""
    text = str(error)
    return text.splitlines()[0] if text else ""


def nearest(
    name: object,
    known: Iterable[str],
    spellings: Mapping[str, Sequence[str]] | None = None,
    *,
    cutoff: float = 0.5,
) -> list[str]:
    """At most three of the known names that somebody may have meant, the likeliest first.

    A name that differs by capital letters, dashes and underscores alone is the one that was meant.

    Args:
        spellings: what a thing is called elsewhere, and the known names of it.
        cutoff: how alike they must be, from 0 to 1, as difflib counts it.
    """
    names = sorted(known)
    asked = _letters(str(name))
    by_letters: dict[str, list[str]] = {}
    for each in names:
        by_letters.setdefault(_letters(each), []).append(each)
    elsewhere = {_letters(other): list(meant) for other, meant in (spellings or {}).items()}
    if exact := by_letters.get(asked) or elsewhere.get(asked):
        return exact[:3]
    near = difflib.get_close_matches(asked, by_letters, n=3, cutoff=cutoff)
    return list(dict.fromkeys(each for letters in near for each in by_letters[letters]))[:3]


def _letters(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def did_you_mean(
    name: object, known: Iterable[str], spellings: Mapping[str, Sequence[str]] | None = None
) -> str:
    """What a message about an unknown name ends with: the nearest known ones, or else all."""
    names = sorted(known)
    near = nearest(name, names, spellings)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"


def unknown_name(
    kind: str, name: object, known: Iterable[str], spellings: Mapping[str, Sequence[str]] | None = None
) -> UsageError:
    """UsageError for a name that is not registered, with the nearest registered ones."""
    return UsageError(f"unknown {kind} {name!r}; {did_you_mean(name, known, spellings)}")
