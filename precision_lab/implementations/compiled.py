"""torch.compile on CPU: one compiled kernel per implementation and dtype, compiled ahead in parallel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

from precision_lab.children import module_path, tie_to_parent
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.inductor_cache import compiler_folder

Progress = Callable[[str, int, int], None]

RECOMPILE_LIMIT = 64
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
COLD_SECONDS = 2.0  # loading a cached kernel takes less, compiling one takes more


class _Process:
    """What compiling changes in this process, and what puts it back."""

    changes: contextlib.ExitStack | None = None  # None: it stays, since no block asked for the contrary
    changed = False


@contextlib.contextmanager
def compiler_settings_kept() -> Iterator[None]:
    """Puts back at its end what compiling changes in this process: see `_configure`. Blocks may nest."""
    if _Process.changes is not None or _Process.changed:
        yield
        return
    with contextlib.ExitStack() as _Process.changes:
        # Torch sets it by itself, too, whenever a part of its compiler is imported.
        _Process.changes.callback(_restore, os.environ.get(_FOLDER))
        try:
            yield
        finally:
            _Process.changes, _Process.changed = None, False


def _configure() -> None:
    """What torch can only be told for the whole process."""
    if _Process.changed:
        return
    import torch._dynamo
    import torch._functorch.config

    _Process.changed = True
    changes = _Process.changes if _Process.changes is not None else contextlib.ExitStack()
    # The compiler knows no other way to be told; worker processes inherit it.
    os.environ[_FOLDER] = str(compiler_folder())
    # Dtypes × parameter shapes × gradient modes are more than the eight variants of the default.
    limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    changes.enter_context(torch._dynamo.config.patch(recompile_limit=limit))
    # A donated buffer forbids the repeated backward that timing needs; it changes no arithmetic.
    changes.enter_context(torch._functorch.config.patch(donated_buffer=False))
    if _Process.changes is None:
        changes.pop_all()


def _restore(folder: str | None) -> None:
    if folder is None:
        os.environ.pop(_FOLDER, None)
    else:
        os.environ[_FOLDER] = folder


def compiled_kernel(implementation: Implementation) -> Any:
    """The kernel compiled as one graph.

    A graph break, or more variants than allowed, raises: run eagerly in silence, the kernel
    would be measured as compiled when it is not.
    """
    _configure()
    return _compiled(implementation)


@lru_cache(maxsize=256)
def _compiled(implementation: Implementation) -> Any:
    return compile_kernel(implementation.kernel, fullgraph=True)


def compile_kernel(kernel: Any, *, fullgraph: bool = False) -> Any:
    """`torch.compile`; sizes are dynamic, so one graph serves every length."""
    import torch

    _configure()
    return torch.compile(kernel, dynamic=True, fullgraph=fullgraph)


def warm(implementation: Implementation, fmt: str, *, timed: bool = False) -> float:
    """Compile the graphs that measuring needs, in seconds; what the cache has is loaded.

    Args:
        timed: also those that timing needs, which has 0-d parameters and a forward without
            gradients.
    """
    import numpy as np
    import torch

    from precision_lab.formats import get_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.placement import raise_if_lost
    from precision_lab.implementations.runner import call, leaf_tensors, run, synchronize, to_tensor

    target = get_format(fmt)
    # Not a multiple of a vector's length, so that the loop's tail is compiled too.
    x = target.round(np.linspace(-4.0, 4.0, 4099))
    params = get_function(implementation.function).check_params()
    start = time.perf_counter()
    run(implementation, x, fmt, params, implementation.measured_outputs())
    if timed:
        try:
            leaves = leaf_tensors(implementation, params, fmt)
            point = to_tensor(x, target).to(implementation.device)
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
    formats: Sequence[str],
    *,
    timed: Collection[str] = (),
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
        seconds[implementation.function, implementation.name, fmt] = round(spent, 2)
        # The first one also starts the compiler; a later slow one means that the cache is cold.
        if done and spent > COLD_SECONDS and not shared and not implementation.on_cuda:
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
    cases: Sequence[tuple[Implementation, str, bool]], workers: int, finished: Callable[[int], None]
) -> None:
    """Fill the compiler's cache from new interpreters; failures show later, in this process."""
    if workers == 1 or len(cases) < 2 * workers:
        return
    done = 0
    running: list[subprocess.Popen[str]] = []

    def share(names: Sequence[str]) -> None:
        nonlocal done
        command = [sys.executable, "-P", "-m", "precision_lab.implementations.compiled", *names]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": module_path()},
        ) as process:  # fmt: skip
            running.append(process)
            assert process.stdout is not None
            for _ in process.stdout:
                done += 1
                finished(done)

    names = [f"{i.function}:{i.name}:{fmt}:{'timed' if timed else ''}" for i, fmt, timed in cases]
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
            warm(get_implementation(function, formulation, "compiled"), fmt, timed=bool(timed))
            print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
