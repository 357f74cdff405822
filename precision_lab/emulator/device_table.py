"""A file of what one device returns for every input of one approximate instruction.

A result is stored as the number of floats from the correctly rounded one, in a byte; the few that are
farther, NaN where it is not, or the zero of the other sign, are stored whole. On devices nearly all bytes are
−1, 0 or 1, so that chunks of them are small when compressed.

The file: the line MAGIC; a line of JSON, the header; chunks, each a head of fixed size and compressed bytes;
and a digest of all that comes before it. Every chunk has a digest of its content, under the header's, so that
a damaged chunk, one of another table or one in another place is never believed.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator import approximate, nominal
from precision_lab.exceptions import DamagedFileError, UsageError

MAGIC = b"precision-lab device table 1\n"
CHUNK = 1 << 20  # results; the last of a table may have fewer
_ESCAPE = -128
_HEAD = struct.Struct("<III32s")  # results, of them stored whole, compressed bytes, digest of the content
_WIDTHS = {"f32": 32, "f16": 16, "bf16": 16}
_KEPT = 64  # chunks held in memory

Bits = NDArray[Any]


@dataclass(frozen=True)
class Header:
    """What was measured where.

    Attributes:
        device, capability, driver: as CUDA names them: "NVIDIA H100 80GB HBM3", "9.0", "13.0".
        op, ftz: as in `nominal.evaluate`.
        start, stop: codes of the inputs, all from the first up to but not the last.

    Raises:
        ValueError: no such instruction of one operand of up to 32 bits, or no such range.
    """

    device: str
    capability: str
    driver: str
    op: str
    ftz: bool
    start: int = 0
    stop: int = 1 << 32

    def __post_init__(self) -> None:
        if not nominal.supports(self.op, self.ftz) or self.op.startswith("div") or self.op.endswith("f64"):
            raise UsageError(
                f"a device table is of one instruction with one operand of 16 or 32 bits; "
                f"op={self.op!r}, ftz={self.ftz}"
            )
        if not 0 <= self.start < self.stop <= 1 << self.width:
            raise UsageError(
                f"inputs of {self.op} have codes below {1 << self.width:#x}; "
                f"start={self.start:#x}, stop={self.stop:#x}"
            )

    @property
    def width(self) -> int:
        return _WIDTHS[self.op.rsplit(".", 1)[1]]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"uint{self.width}")

    def inputs(self, start: int, count: int) -> Bits:
        return np.arange(start, start + count, dtype=np.uint64).astype(self.dtype)


@dataclass(frozen=True)
class Violation:
    """A result beyond what the manual allows; all are codes of the instruction's type."""

    bits: int
    returned: int
    lowest: int
    highest: int


def write(path: Path, header: Header, results: Iterable[Bits]) -> None:
    """Writes a table whole or not at all.

    Args:
        results: codes for the inputs from `header.start` on, in order, in pieces of any size.

    Raises:
        ValueError: fewer or more results than the header says, or of another type.
        OSError: it cannot be written; what was there is as it was.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file, header, results)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, header: Header, results: Iterable[Bits]) -> None:
    line = _line(header)
    whole = hashlib.sha256(MAGIC + line)
    file.write(MAGIC + line)
    at = header.start
    for returned in _chunks(header, results):
        content, count = _encoded(header, at, returned)
        packed = zlib.compress(content, 6)
        chunk = _HEAD.pack(returned.size, count, len(packed), _digest(line, at, content)) + packed
        whole.update(chunk)
        file.write(chunk)
        at += returned.size
    if at != header.stop:
        raise UsageError(f"results for inputs up to {at:#x} only; the header says stop={header.stop:#x}")
    file.write(whole.digest())


def _line(header: Header) -> bytes:
    return json.dumps(asdict(header)).encode() + b"\n"


def _digest(line: bytes, start: int, content: bytes) -> bytes:
    return hashlib.sha256(line + start.to_bytes(8, "little") + content).digest()


def _chunks(header: Header, results: Iterable[Bits]) -> Iterator[Bits]:
    """The pieces, cut and joined to chunks."""
    waiting = np.empty(0, header.dtype)
    taken = header.start
    for piece in results:
        if piece.dtype != header.dtype or piece.ndim != 1:
            raise UsageError(f"results are a row of {header.dtype}; got {piece.dtype}{list(piece.shape)}")
        taken += piece.size
        if taken > header.stop:
            raise UsageError(f"results for inputs up to {taken:#x}; the header says stop={header.stop:#x}")
        waiting = np.concatenate([waiting, piece])
        while waiting.size >= CHUNK:
            yield waiting[:CHUNK]
            waiting = waiting[CHUNK:]
    if waiting.size:
        yield waiting


def _encoded(header: Header, start: int, returned: Bits) -> tuple[bytes, int]:
    """A chunk's content: a byte for each result, then those stored whole; and how many these are."""
    rounded = nominal.evaluate(header.op, header.ftz, 0, header.inputs(start, returned.size))
    distance = _ordinals(returned, header) - _ordinals(rounded, header)
    moved = np.where(np.abs(distance) < -_ESCAPE, distance, _ESCAPE)
    # Also what is not got back: NaN with a payload, and the zero of the other sign.
    moved[_moved(rounded, np.where(moved == _ESCAPE, 0, moved), header) != returned] = _ESCAPE
    whole = returned[moved == _ESCAPE].astype("<u4")
    return moved.astype(np.int8).tobytes() + whole.tobytes(), int(whole.size)


def _decoded(header: Header, start: int, size: int, content: bytes) -> Bits:
    moved = np.frombuffer(content, np.int8, size).astype(np.int64)
    escaped = moved == _ESCAPE
    rounded = nominal.evaluate(header.op, header.ftz, 0, header.inputs(start, size))
    returned = _moved(rounded, np.where(escaped, 0, moved), header)
    returned[escaped] = np.frombuffer(content, "<u4", offset=size).astype(header.dtype)
    return returned


def _ordinals(codes: Bits, header: Header) -> NDArray[np.int64]:
    magnitude = codes.astype(np.int64) & ((1 << (header.width - 1)) - 1)
    return np.where(codes >> (header.width - 1), -magnitude, magnitude)


def _moved(codes: Bits, by: NDArray[np.int64], header: Header) -> Bits:
    """Codes of the floats so many away; a zero keeps the sign of what it came from."""
    sign = 1 << (header.width - 1)
    ordinals = _ordinals(codes, header) + by
    negative = (ordinals < 0) | ((ordinals == 0) & (codes & sign).astype(bool))
    moved: Bits = (np.abs(ordinals) | np.where(negative, sign, 0)).astype(header.dtype)
    return moved


def violates(header: Header, inputs: Bits, returned: Bits) -> tuple[NDArray[np.bool_], Bits, Bits]:
    """Whether results are beyond the manual's bound, and the smallest and largest that are not.

    Where the manual promises nothing, every number conforms.
    """
    infinity = 0x7C00 if header.op.endswith(".f16") else 0x7F80 << (header.width - 16)
    low, high = approximate.extremes(header.op, header.ftz, inputs)
    lowest, highest, at = (_ordinals(codes, header) for codes in (low, high, returned))
    is_nan, wants_nan = np.abs(at) > infinity, np.abs(lowest) > infinity
    wrong = (is_nan != wants_nan) | (~is_nan & ((at < lowest) | (at > highest)))
    # A result that a table of the manual gives is that one, its sign and all.
    wrong |= ~is_nan & (low == high) & (returned != low)
    return wrong & approximate.is_promised(header.op, header.ftz, inputs), low, high


class DeviceTable:
    """A table on disk, from which chunks are read as they are needed."""

    def __init__(self, path: Path, header: Header, places: tuple[tuple[int, int, int, bytes], ...]) -> None:
        self.path, self.header = path, header
        self._places = places  # of each chunk: its bytes' offset and number, its results, its digest
        self._chunk = lru_cache(maxsize=_KEPT)(self._read)

    @classmethod
    def load(cls, path: Path) -> DeviceTable:
        """Reads the header and where the chunks are, and checks that the file is whole.

        Raises:
            DamagedFileError: it is no such table, cut short, or not as it was written.
        """
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DamagedFileError(f"{path} is no device table, or one of another version")
            line = file.readline()
            whole = hashlib.sha256(MAGIC + line)
            try:
                header = Header(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise DamagedFileError(f"{path}: its header says nothing of use: {error}") from error
            places, at = [], header.start
            while at < header.stop:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise DamagedFileError(f"{path} ends before its results do: at input {at:#x}")
                size, _, length, digest = _HEAD.unpack(head)
                places.append((file.tell(), length, size, digest))
                whole.update(head + file.read(length))
                at += size
                if not 0 < size <= CHUNK or (size < CHUNK and at != header.stop):
                    raise DamagedFileError(f"{path}: a chunk of {size} results before input {at:#x}")
            if file.read() != whole.digest():
                raise DamagedFileError(f"{path} is not as it was written: its digest differs")
        return cls(path, header, tuple(places))

    def _read(self, index: int) -> Bits:
        offset, length, size, digest = self._places[index]
        start = self.header.start + index * CHUNK
        with self.path.open("rb") as file:
            file.seek(offset)
            packed = file.read(length)
        try:
            content = zlib.decompress(packed)
        except zlib.error as error:
            raise DamagedFileError(f"{self.path}: chunk {index} does not unpack: {error}") from error
        if _digest(_line(self.header), start, content) != digest:
            raise DamagedFileError(f"{self.path}: chunk {index} is not as it was written")
        return _decoded(self.header, start, size, content)

    def evaluate(self, bits: Bits) -> Bits:
        """What the device returned for these inputs.

        Raises:
            ValueError: codes of another type, or of inputs that were not measured.
            DamagedFileError: the file has changed since it was loaded.
        """
        header = self.header
        if bits.dtype != header.dtype:
            raise UsageError(f"{header.op} takes {header.dtype}; got {bits.dtype}")
        flat = bits.ravel().astype(np.int64)
        outside = (flat < header.start) | (flat >= header.stop)
        if outside.any():
            raise UsageError(
                f"the table has inputs from {header.start:#x} to {header.stop - 1:#x} only; "
                f"bits={int(flat[outside][0]):#x}"
            )
        chunks, places = np.divmod(flat - header.start, CHUNK)
        out = np.empty(flat.size, header.dtype)
        for index in np.unique(chunks):
            here = chunks == index
            out[here] = self._chunk(int(index))[places[here]]
        return out.reshape(bits.shape)

    def violations(self, most: int = 1000) -> list[Violation]:
        """Results beyond the manual's bound, from the smallest code on, at most so many."""
        header, found = self.header, list[Violation]()
        for index, (_, _, size, _) in enumerate(self._places):
            inputs = header.inputs(header.start + index * CHUNK, size)
            returned = self._chunk(index)
            # The correctly rounded result conforms; few others are left to look at.
            other = np.flatnonzero(returned != nominal.evaluate(header.op, header.ftz, 0, inputs))
            if not other.size:
                continue
            inputs, returned = inputs[other], returned[other]
            wrong, low, high = violates(header, inputs, returned)
            for i in np.flatnonzero(wrong)[: most - len(found)]:
                found.append(Violation(int(inputs[i]), int(returned[i]), int(low[i]), int(high[i])))
            if len(found) >= most:
                break
        return found
