"""What torch.compile makes of many kernels, made in parallel processes before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations.base import Implementation
from precision_lab.results.execution import COMPILED
from precision_lab.running.case import case_of
from precision_lab.running.placement import raise_if_lost
from precision_lab.running.runner import call, leaf_tensors, run, synchronize
from precision_lab.running.tensors import to_tensor
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.system.children import module_path, tie_to_parent
from precision_lab.system.progress import Progress

COLD_SECONDS = 2.0  # loading a cached kernel takes less, compiling one takes more


def warm(implementation: Implementation, fmt: FloatFormat, *, timed: bool = False) -> float:
    """Compile the graphs that measuring needs, in seconds; what the cache has is loaded.

    Args:
        timed: also those that timing needs, which has 0-d parameters and a forward without
            gradients.
    """
    # Not a multiple of a vector's length, so that the loop's tail is compiled too.
    x = fmt.round(np.linspace(-4.0, 4.0, 4099))
    case = case_of(implementation, fmt)
    start = time.perf_counter()
    run(case, x)
    if timed:
        try:
            leaves = leaf_tensors(case)
            point = to_tensor(x, fmt).to(implementation.device.torch)
            with torch.no_grad():
                call(implementation, point, leaves)
            sources = [tensor.clone().requires_grad_() for tensor in (point, *leaves.values())]
            y = call(implementation, sources[0], dict(zip(leaves, sources[1:], strict=True)))
            torch.autograd.grad(y.sum(), sources, allow_unused=True)
            synchronize(implementation)
        except RuntimeError as error:
            raise_if_lost(implementation, error)
            raise
    return time.perf_counter() - start


def precompile(
    implementations: Sequence[Implementation],
    formats: Sequence[FloatFormat],
    *,
    timed: Collection[Activation] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[tuple[str, str, str], float]:
    """Compile every kernel × format in this process, sharing the work where it is not cached.

    Args:
        timed: functions whose kernels will be timed too.
        workers: interpreters that share the work; by default one per core.

    Returns:
        Seconds by (function, implementation, format), as this process spent them.
    """
    cases = [(i, fmt) for i in implementations for fmt in formats if fmt in i.formats]
    report = progress or (lambda stage, done, total: None)
    seconds: dict[tuple[str, str, str], float] = {}
    shared = False
    for done, (implementation, fmt) in enumerate(cases):
        report("compile", done, len(cases))
        spent = warm(implementation, fmt, timed=implementation.function in timed)
        seconds[implementation.function.name, implementation.name, fmt.name] = round(spent, 2)
        # The first one also starts the compiler; a later slow one means that the cache is cold.
        if done and spent > COLD_SECONDS and not shared and not implementation.device.is_accelerator:
            shared = True
            _compile_elsewhere(
                [(i, f, i.function in timed) for i, f in cases[done + 1 :]],
                workers or os.cpu_count() or 1,
                partial(_report_from, report, done, len(cases)),
            )
    report("compile", len(cases), len(cases))
    return seconds


def _report_from(report: Progress, start: int, total: int, done: int) -> None:
    report("compile", start + done, total)


def _compile_elsewhere(
    cases: Sequence[tuple[Implementation, FloatFormat, bool]], workers: int, finished: Callable[[int], None]
) -> None:
    """Fill the compiler's cache from new interpreters; failures show later, in this process."""
    if workers == 1 or len(cases) < 2 * workers:
        return
    done = 0
    running: list[subprocess.Popen[str]] = []

    def share(names: Sequence[str]) -> None:
        nonlocal done
        command = [sys.executable, "-P", "-m", "precision_lab.running.precompile", *names]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": module_path()},
        ) as process:  # fmt: skip
            running.append(process)
            assert process.stdout is not None
            for _ in process.stdout:
                done += 1
                finished(done)

    names = [f"{i.function.name}:{i.name}:{fmt.name}:{'timed' if timed else ''}" for i, fmt, timed in cases]
    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(share, [names[k::workers] for k in range(workers)]))
        except BaseException:
            for process in running:
                process.kill()
            raise


def main(names: Sequence[str]) -> None:
    """Worker: compile each FUNCTION:NAME:FORMAT:[timed] and print a line when it is done.

    With torch's threads as they are: their number is part of the generated code, and so of its key.
    """
    tie_to_parent(os.dup(0))
    from precision_lab.implementations import get_implementation

    with compiler_settings_kept():
        for name in names:
            function, formulation, fmt, timed = name.split(":")
            warm(
                get_implementation(get_function(function), formulation, COMPILED),
                get_format(fmt),
                timed=bool(timed),
            )
            print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
