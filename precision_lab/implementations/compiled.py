"""torch.compile on CPU: one compiled kernel per implementation and dtype, compiled ahead in parallel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from precision_lab.implementations.base import Implementation

Progress = Callable[[str, int, int], None]


@lru_cache(maxsize=256)
def compiled_kernel(implementation: Implementation) -> Any:
    """`torch.compile` of the kernel; sizes are dynamic, so one graph serves every length."""
    import torch

    return torch.compile(implementation.kernel, dynamic=True)


def warm(implementation: Implementation, fmt: str) -> float:
    """Compile forward and backward for one format, in seconds; what the cache has is loaded."""
    import numpy as np

    from precision_lab.formats import get_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.runner import run, run_reduced

    target = get_format(fmt)
    x = target.round(
        np.linspace(-4.0, 4.0, 4099)
    )  # not a multiple of a vector, so that the tail is compiled too
    params = get_function(implementation.function).check_params()
    start = time.perf_counter()
    run(implementation, x, fmt, params, implementation.measured_outputs())
    run_reduced(implementation, x, x, fmt, params)  # 0-d parameters are a graph of their own
    return time.perf_counter() - start


def precompile(
    implementations: Sequence[Implementation], formats: Sequence[str], *, progress: Progress | None = None
) -> dict[tuple[str, str, str], float]:
    """Fill the compiler's cache with every kernel × format, on all cores.

    Each worker is an interpreter of its own that compiles a share; this process then
    loads the results. Returns seconds by (function, implementation, format) as seen here
    afterwards, the compilation itself included where a worker failed.
    """
    cases = [(i, fmt) for i in implementations for fmt in formats if fmt in i.formats]
    report = progress or (lambda stage, done, total: None)
    workers = os.cpu_count() or 1
    done = 0
    report("compile", 0, len(cases))
    shares = [cases[k::workers] for k in range(workers)] if workers > 1 else []

    def elsewhere(share: Sequence[tuple[Implementation, str]]) -> None:
        nonlocal done
        names = [f"{i.function}:{i.name}:{fmt}" for i, fmt in share]
        command = [sys.executable, "-m", "precision_lab.implementations.compiled", *names]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            for _ in process.stdout:
                done += 1
                report("compile", done, len(cases))

    if shares:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(elsewhere, shares))
    return {(i.function, i.name, fmt): round(warm(i, fmt), 2) for i, fmt in cases}


def main(names: Sequence[str]) -> None:
    """Worker: compile each FUNCTION:NAME:FORMAT and print a line when it is done."""
    import torch

    from precision_lab.implementations import get_implementation

    torch.set_num_threads(1)
    for name in names:
        function, formulation, fmt = name.split(":")
        warm(get_implementation(function, formulation, "compiled"), fmt)
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
