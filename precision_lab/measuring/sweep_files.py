"""A sweep's files: a manifest, a shard's counts each, and the result."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.oracle import TIERS
from precision_lab.results import Failure, strict_json
from precision_lab.scoring import columns
from precision_lab.scoring.tally import EDGE_COLUMNS, Tally
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.npz import Arrays

SCHEMA = 2  # of shards
MANIFEST = "sweep.json"
RESULT = "measurements.json"
_LONGEST_FAILURES = 1 << 20  # characters of what a shard says of outputs that failed
_COUNTS = (
    columns.VALID, columns.MISROUNDED, columns.WRONG_SIGN, columns.NONFINITE, columns.ZERO_SIGN,
    columns.MONOTONE,
)  # fmt: skip


class Extent(NamedTuple):
    """What a shard covers: `chunks` of `size` inputs each, counted in `cells`."""

    cells: int
    chunks: int
    size: int


def _tally(output: str, arrays: Arrays, extent: Extent) -> Tally:
    """One output's counts; a checksum says that they are as written, not by whom.

    Raises:
        DamagedFileError: a shape, or counts that so many inputs do not come to.
    """
    inputs = extent.chunks * extent.size
    shapes: dict[str, tuple[int, ...]] = {
        "rows": (2 * extent.cells, columns.COLUMNS),
        "histogram": (columns.BINS,),
        "tiers": (len(TIERS),),
        "near": (4, 2),
    }
    for name, longest, row in (("undecided", inputs, ()), ("edges", 2 * extent.chunks, (EDGE_COLUMNS,))):
        shapes[name] = arrays.shape(f"{output}/{name}")
        if len(shapes[name]) != 1 + len(row) or shapes[name][1:] != row or shapes[name][0] > longest:
            raise DamagedFileError(f"{output}/{name} has shape {shapes[name]}")
    tally = Tally.from_arrays(
        {name: arrays.read(f"{output}/{name}", "<i8", shapes[name]) for name in Tally.__dataclass_fields__}
    )
    n = tally.rows[:, columns.N]
    if (n < 0).any() or (n > inputs).any() or n.sum() != inputs:
        raise DamagedFileError(f"{output}/rows: not every one of {inputs} inputs once")
    counts = tally.rows[:, _COUNTS]
    if (counts < 0).any() or (counts > n[:, None]).any():
        raise DamagedFileError(f"{output}/rows: counts that are negative, or of more than their inputs")
    for name, total in (("histogram", int(tally.rows[:, columns.VALID].sum())), ("tiers", inputs)):
        values = getattr(tally, name)
        if (values < 0).any() or (values > total).any() or values.sum() != total:
            raise DamagedFileError(f"{output}/{name}: not every one of {total} inputs once")
    return tally


class SweepFiles:
    """Shards on disk: written whole or not at all, and read only if they are what was written."""

    def __init__(self, directory: Path, manifest: dict[str, Any], resume: bool) -> None:
        self.directory = directory
        path = directory / MANIFEST
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, (json.dumps(manifest, indent=1) + "\n").encode())
            return
        if not resume:
            raise UsageError(
                f"--out {str(directory)!r} holds a sweep already; --resume goes on with it, "
                "or choose another folder"
            )
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedFileError(f"{path} is not a sweep's manifest: {error}") from error
        if not isinstance(stored, dict):
            raise DamagedFileError(f"{path} is not a sweep's manifest: {stored!r}")
        if stored.get("schema") != SCHEMA:
            raise UsageError(
                f"--resume: {str(directory)!r} holds shards of another version of the lab "
                f"(schema {stored.get('schema')!r}, this one's is {SCHEMA}): start anew in another folder"
            )
        for key, value in manifest.items():
            if stored.get(key) != value:
                raise UsageError(
                    f"--resume: {str(directory)!r} holds another sweep: its {key} is {stored.get(key)!r}, "
                    f"this one's {value!r}"
                )

    def _path(self, shard: int) -> Path:
        return self.directory / f"shard-{shard:05d}.npz"

    def read(self, shard: int, outputs: Sequence[str], extent: Extent) -> dict[str, Tally | Failure] | None:
        """The shard's counts; None where it was not done yet.

        Raises:
            DamagedFileError: the file is not what was written, or holds what no sweep counts.
        """
        path = self._path(shard)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) < 32 or hashlib.sha256(data[32:]).digest() != data[:32]:
            raise DamagedFileError(f"{path}: its checksum does not match")
        arrays = Arrays(io.BytesIO(data[32:]))
        found: dict[str, Tally | Failure] = {}
        try:
            failures = json.loads(arrays.text("failures", _LONGEST_FAILURES))
            for output in outputs:
                found[output] = (
                    Failure(**failures[output]) if output in failures else _tally(output, arrays, extent)
                )
        except (ValueError, TypeError, RecursionError, DamagedFileError) as error:
            raise DamagedFileError(f"{path}: {error}") from error
        return found

    def write(self, shard: int, found: Mapping[str, Tally | Failure]) -> None:
        arrays: dict[str, Any] = {
            f"{output}/{name}": array
            for output, part in found.items()
            if isinstance(part, Tally)
            for name, array in part.arrays().items()
        }
        failures = {output: asdict(part) for output, part in found.items() if isinstance(part, Failure)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, failures=np.array(json.dumps(failures)), **arrays)
        data = buffer.getvalue()
        write_atomically(self._path(shard), hashlib.sha256(data).digest() + data)

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_atomically(self.directory / RESULT, (strict_json(result) + "\n").encode())
