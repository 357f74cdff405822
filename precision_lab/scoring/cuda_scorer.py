"""Scores values that lie on a device where they lie: the first tier there, the rest of the ladder here.

A tile is the same as on the CPU (`scoring.tile`), so every statistic is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.inputs.cells import EMPTY_STRETCH, SPECIAL_STRETCH
from precision_lab.numeric.nvrtc import Argument, CudaProgram
from precision_lab.oracle import POSITIVE
from precision_lab.oracle.record import FLOAT64
from precision_lab.scoring import columns
from precision_lab.scoring.first_tier import TILE
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.scorer import Scorer

Int64 = NDArray[np.int64]

THREADS = 256
RECORD = 8  # fields of a tile's record
END = 6  # y, s and its bound at a tile's first and last input


class Program(Protocol):
    """Something that runs the kernels of `score.cu`."""

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[Argument]) -> None: ...


def source() -> str:
    """The CUDA C++ text of the first tier."""
    return resources.files("precision_lab.scoring").joinpath("score.cu").read_text(encoding="utf-8")


def program_on(device: torch.device) -> Program:
    """The first tier compiled for a device, once per process."""
    # "cuda" is whatever device is current.
    return _compiled(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache(maxsize=8)
def _compiled(index: int) -> Program:
    return CudaProgram(source(), "score.cu", torch.device("cuda", index))


class DeviceScorer(Scorer):
    """As `Scorer`, for tensors on a device; `score` takes float32 tensors instead of arrays.

    Args:
        device: where the tensors are; program: runs the first tier there, by default the device's own.
        chunk: patterns after which monotony is judged from kept edges, as on the CPU; 0 for never.
    """

    def __init__(
        self,
        *arguments: Any,
        device: torch.device,
        program: Program | None = None,
        chunk: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        if not self._fast:
            raise UsageError("formats of more than 32 bits are not scored on a device")
        self._device = device
        self._runs_on = program_on(device) if program is None else program
        self._chunk = chunk
        tables = self._program.tables
        arrays = (tables.layout, tables.coefficients, tables.bounds, tables.asymptotes)
        self._tables = [self._put(a) for a in arrays]
        self._per_output = [self._of_output(j) for j in range(len(self.outputs))]

    def _of_output(self, j: int) -> list[Tensor]:
        p = self._program
        arrays = (p.slots, p.weights, p.relative, p.absolute, p.windows, p.pivots)
        return [self._put(a) for a in (self._fmts[j], *(array[:, j] for array in arrays))]

    def _put(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def score(  # type: ignore[override]
        self, x: Tensor, ys: Sequence[Tensor], runs: Int64, patterns: Patterns
    ) -> None:
        """Counts a chunk of inputs; see `Scorer.score`. All on the device but `runs` and `patterns`.

        Raises:
            torch.OutOfMemoryError: nothing of the chunk has been counted then.
        """
        special = runs[:, 3] == SPECIAL_STRETCH
        ordinary = runs[runs[:, 3] >= 0]
        scored = self._first_tier(x, ys, ordinary, patterns) if ordinary.size else []
        # From here on nothing is asked of the device's memory.
        self._fed += x.numel()
        for start, end, cell, _ in runs[special].tolist():
            values = [y[start:end].cpu().numpy() for y in ys]
            self._score_special(x[start:end].cpu().numpy(), values, cell, patterns.between(start, end))
        for start, end, cell, _ in runs[runs[:, 3] == EMPTY_STRETCH].tolist():
            self._score_empty([y[start:end].cpu().numpy() for y in ys], cell, patterns.between(start, end))
        total = int((ordinary[:, 1] - ordinary[:, 0]).sum())
        for j, found in enumerate(scored):
            tally = self.tallies[j]
            columns.merge(self._rows[j], found.rows)
            self._histograms[j] += found.histogram
            tally.tiers[FLOAT64] += total - found.left.size
            if self._keeps_edges:
                self._keep_tile_edges(tally, found, patterns)
            if found.left.size:
                index = found.left
                cell = ordinary[np.searchsorted(ordinary[:, 0], index, side="right") - 1, 2]
                self._left[j].append((found.x, found.y, cell, patterns.at(index)))
                self._escalate_when_many(j)
        self._keep_nearest(runs[~special], [_Peek(y) for y in ys], patterns)  # type: ignore[misc]

    def _first_tier(self, x: Tensor, ys: Sequence[Tensor], runs: Int64, patterns: Patterns) -> list[_Scored]:
        """What the first tier counts of each output, and what it leaves."""
        tiles = _tiles(runs, patterns.first if self._chunk else 0, self._chunk)
        listed = None if patterns.listed is None else self._put(patterns.listed)
        left = torch.empty(x.numel(), dtype=torch.int64, device=self._device)
        given = _Given(x, listed, patterns.first, tiles, self._put(tiles), left)
        return [self._of_tiles(j, y, given) for j, y in enumerate(ys)]

    def _of_tiles(self, j: int, y: Tensor, given: _Given) -> _Scored:
        rows = self._put(columns.empty(self.cells.starts.size))
        on_device, left, count = given.on_device, given.left, given.tiles.shape[0]
        histogram = torch.zeros(columns.BINS, dtype=torch.int64, device=self._device)
        n_left = torch.zeros(1, dtype=torch.int64, device=self._device)
        ends = torch.empty(count, END, dtype=torch.float64, device=self._device)
        records = torch.empty(count, RECORD, dtype=torch.int64, device=self._device)
        fmt, slots, weights, relative, absolute, windows, pivots = self._per_output[j]
        layout, coefficients, bounds, asymptotes = self._tables
        self._runs_on.launch(
            "score_tiles", count, THREADS,
            [
                given.x, y, given.listed, given.first, on_device, 1, fmt, slots, weights, relative, absolute,
                windows, pivots, layout, coefficients, bounds, asymptotes, layout.shape[1], rows, histogram,
                left, n_left, ends, records,
            ],
        )  # fmt: skip
        for stage in range(3):
            self._runs_on.launch(
                "settle", -(-count // THREADS), THREADS, [count, on_device, ends, fmt, records, rows, stage]
            )
        index = left[: int(n_left)].sort().values
        arrays = (rows, histogram, ends, index, given.x[index], y[index])
        return _Scored(given.tiles, *(array.cpu().numpy() for array in arrays))

    def _keep_tile_edges(self, tally: Any, found: _Scored, patterns: Patterns) -> None:
        """The first and last ordinary input of every chunk, as the CPU keeps them."""
        tiles, ends = found.tiles, found.ends
        starts = tiles[:, 0] + patterns.first
        chunk = starts // self._chunk if self._chunk else np.zeros(starts.size, np.int64)
        opening = np.flatnonzero(np.diff(chunk, prepend=-1))
        closing = np.append(opening[1:] - 1, chunk.size - 1)
        for a, b in zip(opening.tolist(), closing.tolist(), strict=True):
            begin = (float(tiles[a, 0]), *ends[a, :3])
            end = (float(tiles[b, 0] + tiles[b, 1] - 1), *ends[b, 3:])
            self._keep_edges(tally, np.array([begin, end]), patterns)


@dataclass(frozen=True)
class _Given:
    """What the first tier reads of a chunk, whichever output it counts; `left` is where it leaves indices."""

    x: Tensor
    listed: Tensor | None
    first: int
    tiles: Int64
    on_device: Tensor
    left: Tensor


@dataclass(frozen=True)
class _Scored:
    """One output's counts, its tiles' ends, and the indices, ascending, that are left to the next tier."""

    tiles: Int64
    rows: Int64
    histogram: Int64
    ends: NDArray[np.float64]
    left: Int64
    x: NDArray[np.float32]
    y: NDArray[np.float32]


class _Peek:
    """Single values of a tensor on a device."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, index: int) -> float:
        return float(self._tensor[index])


def _tiles(runs: Int64, first: int, chunk: int) -> Int64:
    """start, n, cell, stretch and whether it adjoins the tile before, for every tile of the runs.

    Args:
        runs: of one cell each, none across a multiple of `chunk` patterns.
        first: pattern of input 0.
    """
    length = runs[:, 1] - runs[:, 0]
    count = -(-length // TILE)
    run = np.repeat(np.arange(runs.shape[0]), count)
    place = np.arange(run.size) - np.repeat(np.cumsum(count) - count, count)
    start = runs[run, 0] + place * TILE
    positive = runs[:, 3] == POSITIVE
    adjoins = np.zeros(runs.shape[0], np.bool_)
    adjoins[1:] = (runs[1:, 0] == runs[:-1, 1]) & (positive[1:] == positive[:-1])
    if chunk:
        adjoins &= (runs[:, 0] + first) % chunk != 0
    return np.stack(
        [
            start,
            np.minimum(runs[run, 1] - start, TILE),
            runs[run, 2],
            runs[run, 3],
            adjoins[run] | (place > 0),
        ],
        axis=1,
    ).astype(np.int64)


__all__ = ["DeviceScorer", "Program", "program_on", "source"]
