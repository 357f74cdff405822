"""The GPU's first tier, compiled for this machine, against the CPU's: every statistic bit for bit.

This tests the source and everything around it. That a GPU runs it the same is `test_gpu.py`'s claim. By
default every subject runs in every format with one of its sets of parameters; the exhaustive run adds the
others.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import host_program
import numpy as np
import pytest
import torch
from by_name import (
    DeviceScorer,
    Implementation,
    Scorer,
    case,
    cells,
    get_implementation,
    run,
    sweep_chunks,
    sweep_on_device,
)
from turns import in_turn

from precision_lab.devices import CPU as HOST
from precision_lab.formats import get_format
from precision_lab.functions import XIELU, get_function
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.measuring import every_input
from precision_lab.oracle import reference
from precision_lab.oracle.format_row import format_row
from precision_lab.oracle.record import FLOAT64
from precision_lab.results import Failure
from precision_lab.results.execution import EAGER, FP8_BF16, FP8_FP32
from precision_lab.running.case import Case
from precision_lab.running.clock import Clock
from precision_lab.scoring import columns
from precision_lab.scoring.cuda_scorer import _tiles, source
from precision_lab.scoring.one_value import score_many
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.settled import Counts, settled
from precision_lab.scoring.tally import Tally

needs_compiler = pytest.mark.skipif(host_program.COMPILER is None, reason="no C++ compiler (g++ or clang++)")
CPU = torch.device("cpu")
SUBJECTS = [
    (i, fmt)
    for i in IMPLEMENTATIONS.values()
    if i.execution in (EAGER, FP8_FP32, FP8_BF16) and i.runs_on(HOST) and i.function.sides is not None
    for fmt in i.formats
    if fmt.bits <= 16
]
SETS = {i.function: list(i.function.parameter_sets) for i, _ in SUBJECTS}
SETS = {function: sets[: 4 if function == XIELU else 1] for function, sets in SETS.items()}
# One set of parameters each, in turn, and the others.
FEW = [(i, fmt, SETS[i.function][n % len(SETS[i.function])]) for n, (i, fmt) in enumerate(SUBJECTS)]
MORE = [(i, fmt, name) for i, fmt in SUBJECTS for name in SETS[i.function] if (i, fmt, name) not in FEW]
PARTS = [
    *(pytest.param(FEW[k::6], id=f"{k}", marks=[pytest.mark.slow] * (k % 2)) for k in range(6)),
    *(pytest.param(MORE[k::6], id=f"other sets {k}", marks=pytest.mark.slow) for k in range(6)),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> host_program.HostProgram:
    return host_program.HostProgram(tmp_path_factory.mktemp("score"))


@needs_compiler
@pytest.mark.parametrize("part", PARTS)
def test_every_statistic_of_every_16_bit_run_is_the_same(
    part: list[tuple[Implementation, str, str]], program: host_program.HostProgram
) -> None:
    """All eager and FP8 subjects, every function, every 16- and 8-bit input, every output."""
    for implementation, fmt, params_name in part:
        params = implementation.function.parameter_sets[params_name]
        asked = case(implementation, None, fmt, params, inputs="exhaustive")
        inputs = asked.points
        assert inputs.bits is not None
        found = run(implementation, inputs.bits, fmt, params, implementation.measured_outputs())
        good = {o: np.ascontiguousarray(v) for o, v in found.items() if not isinstance(v, Failure)}
        formats = [implementation.output_format(fmt, o) for o in good]
        common = (inputs.cells, implementation.function, tuple(good), asked.effective, formats)
        options = {"saturating": implementation.saturating, "edges": True}
        here = Scorer(*common, **options)
        there = DeviceScorer(*common, **options, device=CPU, program=program)
        patterns = inputs.bits.astype(np.uint64)
        x, runs = fmt.decode(inputs.bits).astype(np.float32), inputs.cells.runs(patterns)
        here.score(x, list(good.values()), runs, Patterns.of(patterns))
        ys = [torch.from_numpy(v) for v in good.values()]
        there.score(torch.from_numpy(x), ys, runs, Patterns.of(patterns))
        for output, ours, theirs in zip(good, here.finish(), there.finish(), strict=True):
            assert _different(ours, theirs) == [], (implementation.label, fmt.name, params_name, output)


def _different(a: Tally, b: Tally) -> list[str]:
    ours, theirs = a.arrays(), b.arrays()
    return [name for name in ours if not np.array_equal(ours[name], theirs[name])]


def _find(function: str, name: str) -> Implementation:
    return get_implementation(function, name)


@needs_compiler
@pytest.mark.parametrize(
    ("function", "name", "at_once"),
    in_turn((("xielu", "naive"), ("gelu", "torch"), ("relu2", "torch")), (1, 3, 256)),
)
def test_a_sweep_in_large_pieces_is_the_cpus_sweep(
    function: str, name: str, at_once: int, program: host_program.HostProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp32, chunks around several thresholds, edges between chunks included, however they are grouped."""
    implementation = _find(function, name)
    params = get_function(function).check_params()
    # Around 0, through 2^-30, the near-zero region, −1 and roots, far out, infinity and NaN, both signs.
    exponents = (0, 97, 106, 126, 127, 128, 133, 254, 255)
    wanted = [
        ((s << 31) + (e << 23)) // every_input.CHUNK + k for s in (0, 1) for e in exponents for k in (0, 1)
    ]
    outputs = implementation.measured_outputs()
    monkeypatch.setattr(every_input, "DEVICE_CHUNKS", at_once)
    import precision_lab.scoring.cuda_scorer as module

    monkeypatch.setattr(module, "program_on", lambda device: program)
    args = (implementation, outputs, "fp32", params, wanted)
    expected = sweep_chunks(*args, workers=1)
    got = sweep_on_device(*args)
    for output in outputs:
        ours, theirs = expected[output], got[output]
        assert isinstance(ours, Tally) and isinstance(theirs, Tally)
        assert _different(ours, theirs) == [], output


@needs_compiler
def test_any_nan_is_the_same_nan(program: host_program.HostProgram) -> None:
    """Invalid operations give x86 a negative NaN and a GPU a positive one; no statistic tells them apart."""
    implementation, fmt = _find("xielu", "naive"), get_format("bf16")
    params = get_function("xielu").check_params()
    inputs = case(implementation, None, fmt, params, inputs="exhaustive").points
    assert inputs.bits is not None
    (y,) = run(implementation, inputs.bits, "bf16", params, ("grad_x",)).values()
    assert isinstance(y, np.ndarray)
    y[::7] = np.nan  # among them the inputs next to 0, and ends of tiles
    patterns = inputs.bits.astype(np.uint64)
    x, runs = fmt.decode(inputs.bits).astype(np.float32), inputs.cells.runs(patterns)
    found = []
    for nan in (0xFFC00000, 0x7FC00000, 0x7FFFFFFF):
        bits = np.ascontiguousarray(y, np.float32).view(np.uint32).copy()
        bits[np.isnan(y)] = nan
        values = bits.view(np.float32)
        common = (inputs.cells, "xielu", ("grad_x",), params, (fmt,))
        here = Scorer(*common, edges=True)
        there = DeviceScorer(*common, edges=True, device=CPU, program=program)
        here.score(x, [values], runs, Patterns.of(patterns))
        there.score(torch.from_numpy(x), [torch.from_numpy(values)], runs, Patterns.of(patterns))
        found += [here.finish()[0], there.finish()[0]]
    assert found[0].rows[:, columns.NONFINITE].any()
    assert len({tally.digest() for tally in found}) == 1


@needs_compiler
@pytest.mark.parametrize("wrong", [None, 3.0, -448.0, np.nan], ids=str)
def test_results_beyond_a_saturating_format_are_settled_in_the_first_tier(
    wrong: float | None, program: host_program.HostProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all fp32 numbers lie beyond E4M3; a tile with another result than its largest is looked at."""
    import precision_lab.scoring.cuda_scorer as module

    def kernel(x: torch.Tensor) -> torch.Tensor:
        y = x.clamp(0, 448)
        if wrong is not None:
            y[x.view(torch.int32) % 5000 == 0] = wrong
        return y.to(torch.float8_e4m3fn)

    relu = Implementation(
        "to e4m3", "relu", kernel, "eager", ("fp32",), "fp32", "", saturating=True, storage="e4m3"
    )
    monkeypatch.setattr(module, "program_on", lambda device: program)
    cell, fmt = cells("fp32", "relu", {}), get_format("e4m3")
    first = int(np.float32(2.0**20).view(np.uint32)) // every_input.CHUNK
    args = (relu, ("forward",), "fp32", {}, range(first, first + 2))
    (here,) = sweep_chunks(*args, workers=1).values()
    (there,) = sweep_on_device(*args).values()
    assert isinstance(here, Tally) and isinstance(there, Tally)
    assert _different(here, there) == []
    bits = np.arange(first * every_input.CHUNK, (first + 2) * every_input.CHUNK)
    spoilt = 0 if wrong is None else np.unique(bits[bits % 5000 == 0] // 1024).size
    assert here.tiers[FLOAT64] == bits.size - 1024 * spoilt
    # And as the next tier counts them one by one.
    x = bits.astype(np.uint32).view(np.float32)
    y = run(relu, x.view(np.uint32), "fp32", {}, ("forward",))["forward"].astype(np.float64)  # type: ignore[union-attr]
    exact = reference("relu", "forward", {}, x.astype(np.float64), fmt, saturating=True)
    rows, histogram = columns.empty(cell.starts.size), np.zeros(columns.BINS, np.int64)
    runs = cell.runs(bits.astype(np.uint64))
    which = np.repeat(runs[:, 2], runs[:, 1] - runs[:, 0])
    counts = Counts(rows, histogram)
    score_many(counts, which, format_row(fmt, True), bits, y, settled(exact), exact.undecided)
    rows[:, columns.MONOTONE] = here.rows[:, columns.MONOTONE]  # which only the first tier judges
    assert np.array_equal(rows, here.rows) and np.array_equal(histogram, here.histogram)


@needs_compiler
def test_too_little_memory_means_smaller_pieces(
    program: host_program.HostProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    import precision_lab.scoring.cuda_scorer as module

    monkeypatch.setattr(module, "program_on", lambda device: program)
    implementation = _find("relu2", "torch")
    sizes: list[int] = []
    usual = every_input.run_tensors

    def scarce(case: Case, point: torch.Tensor, clock: Clock | None = None) -> object:
        sizes.append(point.numel())
        if point.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return usual(case, point, clock)

    monkeypatch.setattr(every_input, "run_tensors", scarce)
    limit = 2 * every_input.CHUNK
    got = sweep_on_device(implementation, ("forward",), "fp32", {}, range(0, 7))
    tally = got["forward"]
    assert isinstance(tally, Tally)
    assert int(tally.tiers.sum()) == 7 * every_input.CHUNK
    assert max(sizes) == 7 * every_input.CHUNK and sizes[-1] <= limit
    limit = 0
    (failure,) = sweep_on_device(implementation, ("forward",), "fp32", {}, range(0, 7)).values()
    assert isinstance(failure, Failure)
    assert failure.kind == "out_of_memory"


@needs_compiler
def test_scoring_that_runs_out_of_memory_counts_nothing_twice(
    program: host_program.HostProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    import precision_lab.scoring.cuda_scorer as module

    class Scarce:
        """Has no memory left after one output of a large piece, whose counts must not be kept."""

        tiles = 0

        def launch(self, name: str, blocks: int, threads: int, arguments: list[object]) -> None:
            if name == "score_tiles":
                self.tiles += 1
                if self.tiles in (2, 4):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            program.launch(name, blocks, threads, arguments)

    implementation = _find("xielu", "naive")
    params = get_function("xielu").check_params()
    outputs = implementation.measured_outputs()
    args = (implementation, outputs, "fp32", params, range(8, 12))
    monkeypatch.setattr(module, "program_on", lambda device: Scarce())
    got, expected = sweep_on_device(*args), sweep_chunks(*args, workers=1)
    for output in outputs:
        ours, theirs = expected[output], got[output]
        assert isinstance(ours, Tally) and isinstance(theirs, Tally)
        assert _different(ours, theirs) == [], output


def test_tiles_cover_every_run_once_and_adjoin_within_a_chunk() -> None:
    runs = np.array(
        [[0, 1500, 3, 2], [1500, 1501, 4, 2], [1501, 1600, 6, 0], [1600, 4096, 5, 1], [4096, 5000, 5, 1],
         [5100, 5200, 7, 1]]
    )  # fmt: skip
    tiles = _tiles(runs, 0, 4096)
    covered = np.concatenate([np.arange(s, s + n) for s, n, *_ in tiles.tolist()])
    assert np.array_equal(covered, np.concatenate([np.arange(a, b) for a, b, *_ in runs]))
    assert tiles[:, 1].max() <= 1024
    # The first of all, of another sign, at a chunk's start, after a gap; −1 < x < 0 and x ≤ −1 are one side.
    assert tiles[:, 4].tolist() == [0, 1, 1, 0, 1, 1, 1, 0, 0]


def test_runs_between_are_cut_at_chunks() -> None:
    found = cells("fp32", "xielu", get_function("xielu").check_params())
    first, end = 5 * every_input.CHUNK, 41 * every_input.CHUNK
    cut = found.runs_between(first, end, every=every_input.CHUNK)
    pieces = [
        found.runs_between(a, a + every_input.CHUNK) + np.array([a - first, a - first, 0, 0])
        for a in range(first, end, every_input.CHUNK)
    ]
    assert np.array_equal(cut, np.concatenate(pieces))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_no_multiply_add_may_be_contracted(tmp_path: Path) -> None:
    """In PTX an operation with a rounding of its own (.rn) is never fused; one without may be.

    Even when the compiler is told that it may contract.
    """
    text = tmp_path / "score.cu"
    text.write_text(source())
    command = ["nvcc", "-arch=sm_90", "--fmad=true", "--ptx", str(text), "-o", str(tmp_path / "score.ptx")]
    subprocess.run(command, check=True, capture_output=True)
    ptx = (tmp_path / "score.ptx").read_text()
    assert re.search(r"fma\.rn\.f64", ptx)
    assert re.findall(r"\b(?:add|sub|mul|mad|div)(?:\.approx|\.full|\.ftz)?\.f(?:32|64)\b", ptx) == []
    assert "ftz" not in ptx and "approx" not in ptx
    fused = len(re.findall(r"fma\.rn\.f32", ptx))
    # IEEE division is made of fused steps of the compiler's own; there is no other use in float.
    assert fused <= 64
