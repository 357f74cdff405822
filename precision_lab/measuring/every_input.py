"""Runs a kernel over every pattern of a format, chunk by chunk on all cores, and scores it in passing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Lock, local

import numpy as np

from precision_lab.exceptions import first_line
from precision_lab.formats import FloatFormat
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.oracle.curve import Curve
from precision_lab.results import Failure
from precision_lab.running.case import Case
from precision_lab.running.clock import Clock
from precision_lab.running.runner import core_tensor, run, run_tensors
from precision_lab.running.tensors import patterns_on_device
from precision_lab.scoring.choosing import Scores, scorer_for
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.standard import Standard, is_certified
from precision_lab.scoring.tally import Tally
from precision_lab.system.progress import Progress

# A kernel's temporaries stay in the second-level cache, and one call costs little beside its work.
CHUNK = 1 << 18
STAGE = "inputs"  # what progress is told of
# On a GPU, 2^26 inputs a call: a kernel with a dozen temporaries takes a few GiB.
DEVICE_CHUNKS = 256


def every_chunk(fmt: FloatFormat) -> range:
    """Indices of the chunks that hold all patterns of a format."""
    return range(max(1, (1 << fmt.bits) // CHUNK))


def standards(case: Case, outputs: Sequence[str]) -> tuple[Standard, ...]:
    """What a case's outputs are held to."""
    return tuple(
        Standard(
            Curve(case.function, output, case.effective), case.points.cells, case.output_format(output),
            case.implementation.saturating,
            is_certified(case.function, case.fmt, case.output_format(output)),
        )
        for output in outputs
    )  # fmt: skip


def sweep_chunks(
    case: Case,
    chunks: Sequence[int],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> dict[str, Tally | Failure]:
    """Counts of every output of a case over the patterns of some chunks.

    The result depends neither on the number of workers nor on the order of chunks. An output that
    fails in one chunk has failed; the others go on.

    Args:
        chunks: indices; chunk i holds the CHUNK patterns from i·CHUNK on.
        progress: called with inputs done and inputs to do.
        clock: gets the time of the kernel's calls; each waits for what other threads are at.

    Raises:
        EnvironmentAltersResultsError: a thread flushes subnormals.
    """
    implementation, outputs, fmt = case.implementation, case.outputs, case.fmt
    if case.is_scored_there:
        return _sweep_on_device(case, chunks, progress=progress, clock=clock)
    cells, held_to = case.points.cells, standards(case, outputs)
    size = min(CHUNK, 1 << fmt.bits)
    failures: dict[str, Failure] = {}
    one_at_a_time = Lock()
    # Compiled kernels share the compiler's state, and a stranger's may have state of its own: those run one
    # at a time, beside the scoring.
    parallel = implementation.execution.parallel and implementation in IMPLEMENTATIONS.values()
    mine = local()
    scorers: list[Scores] = []

    def work(chunk: int) -> None:
        if not hasattr(mine, "scorer"):
            mine.scorer = scorer_for(held_to, edges=True)
            scorers.append(mine.scorer)
        first = int(chunk) * size
        bits = (first + np.arange(size)).astype(fmt.bits_dtype)
        if parallel:
            computed = run(case, bits, clock)
        else:
            with one_at_a_time:
                computed = run(case, bits, clock)
        for output, values in computed.items():
            if isinstance(values, Failure):
                failures.setdefault(output, values)
                # The place is kept, so that the outputs share one pass; its counts are dropped.
                computed[output] = np.zeros(size, np.float32)
        x = bits.view(np.float32) if fmt.bits == 32 else fmt.decode(bits).astype(np.float32)
        mine.scorer.score(
            x, list(computed.values()), cells.runs_between(first, first + size), Patterns(first)
        )

    count = workers or os.cpu_count() or 1
    pending: set[Future[None]] = set()
    done = 0
    with ThreadPoolExecutor(count) as pool:
        try:
            for chunk in chunks:
                pending.add(pool.submit(work, chunk))
                if len(pending) > 2 * count:
                    done += _collect(pending)
                    if progress:
                        progress(STAGE, done * size, len(chunks) * size)
                if len(failures) == len(outputs):
                    break
            while pending:
                done += _collect(pending)
                if progress:
                    progress(STAGE, done * size, len(chunks) * size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    totals = [Tally.empty(cells.starts.size) for _ in outputs]
    for scorer in scorers:
        for total, part in zip(totals, scorer.finish(), strict=True):
            total.merge(part)
    return {output: failures.get(output, total) for output, total in zip(outputs, totals, strict=True)}


def _sweep_on_device(
    case: Case, chunks: Sequence[int], *, progress: Progress | None = None, clock: Clock | None = None
) -> dict[str, Tally | Failure]:
    """`sweep_chunks` with kernel and scoring on a GPU: inputs are made there, results stay there.

    Many chunks go in one call; should its memory not do, half as many, down to one.
    """
    import torch

    from precision_lab.scoring.cuda_scorer import DeviceScorer

    outputs, fmt, device = case.outputs, case.fmt, case.implementation.device.torch
    cells, size = case.points.cells, min(CHUNK, 1 << fmt.bits)
    scorer = DeviceScorer(standards(case, outputs), edges=True, device=device, chunk=size)
    failures: dict[str, Failure] = {}
    at_once, done = DEVICE_CHUNKS, 0
    while done < len(chunks) and len(failures) < len(outputs):
        first = int(chunks[done]) * size
        count = 1  # chunks that follow one another
        while count < min(at_once, len(chunks) - done) and chunks[done + count] == chunks[done] + count:
            count += 1
        trouble = ""
        try:
            x = patterns_on_device(fmt, first, count * size, device)
            point = core_tensor(case, x)
            found = run_tensors(case, point, clock)
            values = []
            for output, value in found.items():
                if isinstance(value, Failure):
                    failures.setdefault(output, value)
                    value = torch.zeros(count * size, device=device)
                values.append(value.float().contiguous())
            # Made anew: a kernel may have written into its input.
            x = patterns_on_device(fmt, first, count * size, device).float()
            found = {}
            runs = cells.runs_between(first, first + count * size, every=size)
            scorer.score(x, values, runs, Patterns(first))
        except torch.OutOfMemoryError as error:
            trouble = first_line(error)
        # Outside of the handler, whose error still holds what its functions held.
        x, point, found, values, value = torch.empty(0), torch.empty(0), {}, [], torch.empty(0)
        if trouble:
            case.implementation.device.release_memory()
            if count == 1:
                failure = Failure("out_of_memory", f"{size} inputs at once: {trouble}")
                return dict.fromkeys(outputs, failure)
            at_once = max(1, count // 2)
            continue
        done += count
        if progress:
            progress(STAGE, done * size, len(chunks) * size)
    if len(failures) == len(outputs):
        return dict(failures)
    totals = scorer.finish()
    return {output: failures.get(output, total) for output, total in zip(outputs, totals, strict=True)}


def _collect(pending: set[Future[None]]) -> int:
    """Waits for at least one of the pending chunks; raises what it raised."""
    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
    pending -= finished
    for future in finished:
        future.result()
    return len(finished)
