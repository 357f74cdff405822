"""A file of predictions for one device and compiler: small enough to be committed, and checked when read.

MAGIC, a line of JSON, then what xz makes of all predictions in their order. Codes are stored as what differs
(exclusive or) from the correctly rounded results, which the oracle gives again: nearly all of it is 0. Each
prediction has a digest of what it says, so that neither a damaged file nor another oracle is believed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from precision_lab.exceptions import DamagedFileError
from precision_lab.formats import FloatFormat, get_format, output_format
from precision_lab.functions import get_function
from precision_lab.measuring.predicting import Bits, Mask, Prediction, canonical
from precision_lab.oracle import reference
from precision_lab.results.execution import spaced
from precision_lab.system.atomic_file import write_atomically

MAGIC = b"precision-lab predictions 1\n"
SIZE = 2**16


@dataclass(frozen=True)
class Key:
    """What a prediction is of; parameters are the initial ones."""

    function: str
    implementation: str
    execution: str
    fmt: str
    output: str

    def __str__(self) -> str:
        return "|".join((self.function, self.implementation, self.execution, self.fmt, self.output))

    @classmethod
    def of(cls, text: str) -> Key:
        function, implementation, execution, fmt, output = text.split("|")
        return cls(function, implementation, spaced(execution), fmt, output)

    @property
    def source(self) -> FloatFormat:
        """The inputs' format."""
        return get_format(self.fmt)

    @property
    def label(self) -> str:
        """As the registry of implementations has it."""
        return f"{self.function} {self.implementation} [{self.execution}]"


@dataclass(frozen=True)
class Predictions:
    """What a file holds.

    Attributes:
        about: target, and versions of what compiled and executed it.
    """

    about: Mapping[str, str]
    entries: Mapping[Key, Prediction]

    def write(self, path: Path) -> None:
        """
        Raises:
            OSError: it cannot be written; what was there is as it was.
        """
        rows, content = [], []
        for key, prediction in self.entries.items():
            rows.append(
                {
                    "key": str(key), "format": prediction.fmt.name, "by": list(prediction.by),
                    "unknown": prediction.unknown, "sha256": _digest(prediction),
                }
            )  # fmt: skip
            content.append((prediction.bits ^ _rounded(key)).astype("<u2").tobytes())
            content += [np.packbits(mask).tobytes() for mask in _masks(prediction)]
        head = json.dumps({"about": dict(self.about), "predictions": rows}).encode()
        packed = lzma.compress(head + b"\n" + b"".join(content), preset=6)
        write_atomically(path, MAGIC + packed)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """
        Raises:
            DamagedFileError: it is no such file, or not as it was written, or the oracle is another one.
        """
        raw = path.read_bytes()
        if not raw.startswith(MAGIC):
            raise DamagedFileError(f"{path} is no file of predictions, or one of another version")
        try:
            head, _, content = lzma.decompress(raw[len(MAGIC) :]).partition(b"\n")
            data = json.loads(head)
            return cls(data["about"], dict(_entries(path, data["predictions"], content)))
        except (lzma.LZMAError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(f"{path} is not as it was written: {error}") from error


def _entries(path: Path, rows: list[dict[str, Any]], content: bytes) -> Iterator[tuple[Key, Prediction]]:
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return content[at - size : at]

    for row in rows:
        key = Key.of(row["key"])
        differing = np.frombuffer(take(2 * SIZE), "<u2").astype(np.uint16)
        masks = [
            np.unpackbits(np.frombuffer(take(SIZE // 8), np.uint8)).astype(np.bool_)
            for _ in range(1 + len(row["by"]))
        ]
        by = dict(zip(row["by"], masks[1:], strict=True))
        prediction = Prediction(
            get_format(row["format"]), differing ^ _rounded(key), masks[0], by, row["unknown"]
        )
        if _digest(prediction) != row["sha256"]:
            raise DamagedFileError(f"{path}: the prediction of {key} is not as it was written")
        yield key, prediction


def _masks(prediction: Prediction) -> list[Mask]:
    return [prediction.open, *prediction.by.values()]


def _digest(prediction: Prediction) -> str:
    parts = [prediction.bits.astype("<u2").tobytes(), *(np.packbits(m).tobytes() for m in _masks(prediction))]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@lru_cache(maxsize=16)
def _rounded(key: Key) -> Bits:
    """Codes of the correctly rounded results for all inputs."""
    function, fmt = get_function(key.function), key.source
    params = {name: float(fmt.round(np.array([value]))[0]) for name, value in function.check_params().items()}
    out = output_format(fmt, key.output)
    x = fmt.decode(np.arange(SIZE, dtype=np.uint64)).astype(np.float64)
    return canonical(reference(function, key.output, params, x, out).rounded, out)
