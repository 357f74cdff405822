"""torch.compile on CPU: one compiled kernel per implementation and dtype, compiled ahead in parallel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from precision_lab.implementations.base import Implementation, PartlyCompiled
from precision_lab.running.inductor_cache import compiler_folder

RECOMPILE_LIMIT = 64
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


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
    return compile_kernel(implementation.kernel, fullgraph=True, inductor=implementation.inductor)


def compile_kernel(kernel: Any, *, fullgraph: bool = False, inductor: Sequence[tuple[str, Any]] = ()) -> Any:
    """`torch.compile`; sizes are dynamic, so one graph serves every length.

    Args:
        inductor: settings of Inductor's, by name, for this kernel alone.
    """
    import torch

    _configure()
    compile_ = partial(torch.compile, dynamic=True, fullgraph=fullgraph, options=dict(inductor) or None)
    return kernel.compiled_by(compile_) if isinstance(kernel, PartlyCompiled) else compile_(kernel)
