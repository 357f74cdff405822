"""Every pattern of a format in shards: each is written when it is done, and a killed sweep resumes.

Shards are contiguous ranges of whole chunks. What a shard leaves behind is a `Tally` per
output; merging them is associative and commutative, so the result and its digest are
the same whatever the number of shards, their order or the number of threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from precision_lab.devices import Device
from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.target import Called, stamp_of
from precision_lab.measuring.conforming import unexamined
from precision_lab.measuring.every_input import CHUNK, STAGE, every_chunk, standards, sweep_chunks
from precision_lab.measuring.sweep_files import SCHEMA, Extent, SweepFiles
from precision_lab.numeric.sources import source_stamp
from precision_lab.results import Failure, Measurement
from precision_lab.running.case import Case, case_of
from precision_lab.running.clock import Clock
from precision_lab.running.placement import on_device
from precision_lab.running.selfcheck import environment, require_ieee
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.scoring.statistics import finish
from precision_lab.scoring.tally import DIGEST_VERSION, Tally
from precision_lab.system.progress import Progress

DEFAULT_SHARDS = 64


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        digests: SHA-256 over the counts of all outputs, by version of what it covers; see `Tally.digest`.
        resumed: shards that were taken from disk; redone: stored shards that were damaged.
    """

    measurements: tuple[Measurement, ...]
    digests: Mapping[int, str]
    shards: int
    resumed: int
    redone: int

    @property
    def digest(self) -> str:
        """The digest of the newest version."""
        return self.digests[DIGEST_VERSION]

    def to_json(self) -> dict[str, Any]:
        """Plain data; "digest" is the newest version's, and what earlier readers look for."""
        return {
            "digest": self.digest,
            "digests": {str(version): digest for version, digest in self.digests.items()},
            "measurements": [m.to_json() for m in self.measurements],
        }


@compiler_settings_kept()
def sweep(
    case: Case,
    *,
    shards: int = DEFAULT_SHARDS,
    directory: Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measures a case at every pattern of its format, which has up to 32 bits.

    Args:
        shards: how many pieces; at most one per chunk of 2^18 patterns.
        directory: where shards and results are kept; nothing is kept without it.
        resume: go on with the sweep that `directory` holds.
        workers: threads, by default one per core.

    Raises:
        ValueError: fp64; a directory that holds a sweep though `resume` was not asked for, or
            another sweep than this one; shards < 1.
        KernelError: the adapter's library is missing, or its code raised.
        EnvironmentAltersResultsError: subnormals are flushed to zero.
    """
    implementation, fmt, outputs = case.implementation, case.fmt, case.outputs
    if fmt.bits > 32:
        raise UsageError(f"fmt={fmt.name!r}: 2^{fmt.bits} patterns cannot be swept; measure them stratified")
    if shards < 1:
        raise UsageError(f"shards={shards!r}: at least one")
    if resume and directory is None:
        raise UsageError("resume=True needs the directory of the sweep to go on with")
    require_ieee(workers=True)
    case = replace(case, inputs="exhaustive")
    cells = case.points.cells
    chunks = every_chunk(fmt)
    shards = min(shards, len(chunks))
    if directory is None and implementation.device.is_accelerator:
        shards = 1  # nothing is kept, and every shard begins anew with its tables on the device
    manifest = {
        "schema": SCHEMA,
        "function": case.function.name,
        "implementation": implementation.name,
        **({"target": target, "file": stamp_of(target)} if (target := implementation.target) else {}),
        "execution": implementation.execution_name,
        "format": fmt.name,
        "outputs": list(outputs),
        "params": dict(sorted(case.effective.items())),
        "device": implementation.device.name,
        "chunk": CHUNK,
        "shards": shards,
        "oracle": source_stamp(),
        "environment": {k: v for k, v in environment().items() if k != "torch threads"},
    }
    store = None if directory is None else SweepFiles(directory, manifest, resume)
    totals: dict[str, Tally | Failure] = {output: Tally.empty(cells.starts.size) for output in outputs}
    resumed = redone = 0
    clock = Clock(implementation)
    size = min(CHUNK, 1 << fmt.bits)
    everything = len(chunks) * size
    for shard in range(shards):
        mine = chunks[len(chunks) * shard // shards : len(chunks) * (shard + 1) // shards]
        found: dict[str, Tally | Failure] | None = None
        if store is not None:
            try:
                found = store.read(shard, outputs, Extent(cells.starts.size, len(mine), size))
                resumed += found is not None
            except DamagedFileError:
                redone += 1
        if found is None:
            found = sweep_chunks(
                case, mine, workers=workers, clock=clock,
                progress=progress and partial(_advance, progress, mine[0] * size, everything),
            )  # fmt: skip
            if store is not None:
                store.write(shard, found)
        if progress is not None:
            progress(STAGE, (mine[-1] + 1) * size, everything)
        _merge(totals, found)
    require_ieee(workers=True)
    counted = tuple(
        case.blank(output, total)
        if isinstance(total, Failure)
        else finish(case.blank(output), standard, total)
        for (output, total), standard in zip(totals.items(), standards(case, outputs), strict=True)
    )
    digests = {version: _digest(totals, version) for version in range(1, DIGEST_VERSION + 1)}
    result = Sweep(counted, digests, shards, resumed, redone)
    if store is not None:
        store.write_result(result.to_json())  # without times, so that the same counts are the same bytes
    conforming = unexamined(case) if implementation.device.chooses else {}
    timed = (
        m if m.failure else replace(
            m, time_ns_per_element=clock.per_element(m.output), conformity=conforming.get(m.output)
        )
        for m in counted
    )  # fmt: skip
    return replace(result, measurements=tuple(timed))


@dataclass(frozen=True)
class Asked:
    """A case by the names that another process finds its kernel by."""

    kernel: Called
    function: Activation
    fmt: FloatFormat
    params: Mapping[str, float]
    outputs: tuple[str, ...] | None
    params_name: str
    device: Device


def sweep_target(
    asked: Asked,
    *,
    shards: int,
    directory: Path | None,
    resume: bool,
    workers: int | None,
    progress: Progress | None = None,
) -> Sweep:
    """`sweep` of a kernel that is loaded where this is called."""
    implementation = on_device(asked.kernel.load(asked.function, (asked.fmt,)), asked.device)
    case = case_of(implementation, asked.fmt, asked.params, asked.outputs, params_name=asked.params_name)
    return sweep(case, shards=shards, directory=directory, resume=resume, workers=workers, progress=progress)


def _digest(totals: Mapping[str, Tally | Failure], version: int) -> str:
    digest = hashlib.sha256()
    for output, total in totals.items():
        digest.update(output.encode())
        digest.update((total.message if isinstance(total, Failure) else total.digest(version)).encode())
    return digest.hexdigest()


def _advance(progress: Progress, before: int, everything: int, stage: str, done: int, _: int) -> None:
    progress(stage, before + done, everything)


def _merge(totals: dict[str, Tally | Failure], found: Mapping[str, Tally | Failure]) -> None:
    for output, part in found.items():
        total = totals[output]
        if isinstance(part, Failure):
            totals[output] = part if not isinstance(total, Failure) else total
        elif isinstance(total, Tally):
            total.merge(part)


__all__ = ["DEFAULT_SHARDS", "Sweep", "sweep"]
