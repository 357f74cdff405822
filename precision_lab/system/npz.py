"""Arrays from npz files that somebody else may have written: looked at before memory is taken for them."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import DamagedFileError

# What zipfile, zlib, json and numpy raise for files that were cut off or changed.
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_PIECE = 1 << 20  # bytes unpacked at once
_LONGEST_HEADER = 1 << 10  # bytes in which numpy tells dtype and shape of a plain array


class Arrays:
    """The members of an npz file, by name, none of them read yet.

    Raises:
        DamagedFileError: it is no archive, names a member twice or packs one as numpy does not.
    """

    def __init__(self, file: IO[bytes]) -> None:
        with _said("it is no archive of arrays"):
            self._archive = zipfile.ZipFile(file)
        self._members = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}
        if len(self._members) != len(self._archive.infolist()):
            raise DamagedFileError("it has two arrays of one name")
        for name, info in self._members.items():
            # Others are unpacked whole by Python's zipfile, however long that may be.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DamagedFileError(f"array {name!r} is packed by method {info.compress_type}")

    @property
    def names(self) -> set[str]:
        return set(self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape an array announces; nothing of it is read.

        Raises:
            DamagedFileError: there is none of that name, or it does not begin as numpy's do.
        """
        with self._begun(name) as (_, shape, _dtype):
            return shape

    def text(self, name: str, longest: int) -> str:
        """A text of at most so many characters, as numpy keeps one.

        Raises:
            DamagedFileError: it is longer, none, cut off or not there.
        """
        with self._begun(name) as (stream, shape, dtype):
            if shape != () or dtype.kind != "U" or dtype.itemsize > 4 * longest:
                raise DamagedFileError(f"array {name!r} is no text of up to {longest} characters")
            data = stream.read(dtype.itemsize)
            if len(data) < dtype.itemsize or stream.read(1):
                raise DamagedFileError(f"array {name!r} is not as long as announced")
            return str(np.frombuffer(data, dtype)[0]) if data else ""

    def read(self, name: str, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
        """An array that must be of this dtype and shape.

        Raises:
            DamagedFileError: it is of another, cut off, longer than announced or not there.
        """
        found = np.empty(tuple(shape), dtype)
        at = 0
        for piece in self.pieces(name, dtype, shape):
            found[at : at + len(piece)] = piece
            at += len(piece)
        return found

    def pieces(self, name: str, dtype: str, shape: Sequence[int]) -> Iterator[NDArray[Any]]:
        """The rows of an array, some at a time; about a MiB, or one row."""
        wanted, row = np.dtype(dtype), math.prod(shape[1:])
        at_once = max(_PIECE // max(row * wanted.itemsize, 1), 1)
        with self._begun(name) as (stream, announced, found):
            if (announced, found) != (tuple(shape), wanted):
                raise DamagedFileError(
                    f"array {name!r} has shape {announced} and dtype {found}; "
                    f"expected {tuple(shape)} and {wanted}"
                )
            for at in range(0, shape[0], at_once):
                rows = min(at_once, shape[0] - at)
                data = stream.read(rows * row * wanted.itemsize)
                if len(data) < rows * row * wanted.itemsize:
                    raise DamagedFileError(f"array {name!r} ends early")
                yield np.frombuffer(data, wanted).reshape(rows, *shape[1:])
            if stream.read(1):  # at the end its checksum is compared, too
                raise DamagedFileError(f"array {name!r} is longer than its shape")

    @contextmanager
    def _begun(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        """An array's stream behind its header, its shape and its dtype."""
        if name not in self._members:
            raise DamagedFileError(f"array {name!r} is missing")
        with _said(f"array {name!r} cannot be read"), self._archive.open(self._members[name]) as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise DamagedFileError(f"array {name!r} is of another version of numpy's format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, _LONGEST_HEADER)
            if fortran and len(shape) > 1:
                raise DamagedFileError(f"array {name!r} is stored by columns")
            if any(type(n) is not int or n < 0 for n in shape):
                raise DamagedFileError(f"array {name!r} has shape {shape}")
            yield stream, shape, dtype


@contextmanager
def _said(words: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise DamagedFileError(f"{words}: {type(error).__name__}: {error}") from error


__all__ = ["UNREADABLE", "Arrays"]
