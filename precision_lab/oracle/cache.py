"""Exact values of basis functions that only mpmath can evaluate, kept on disk.

An entry is keyed by everything its values depend on: the basis function's source
text, the inputs, and this code's version. Basis functions have no parameters, so one
entry serves every parameter set. Entries carry a checksum; a damaged one is computed
again and replaced. Writing is atomic (temporary file, then rename), so two processes
can only both do the work, never read half of it. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mpmath.libmp import from_float, mpf_abs, mpf_add, mpf_sub, to_float
from numpy.typing import NDArray

from precision_lab.functions import basis as basis_module
from precision_lab.functions.basis import BASIS
from precision_lab.oracle import mp
from precision_lab.oracle.evaluate import certain_ball

Float64 = NDArray[np.float64]

VERSION = 1
BITS = 108  # relative: a little more than a double-double holds
PARALLEL_FROM = 4096  # inputs; below that, starting processes costs more than it saves


def cache_directory() -> Path:
    """$PRECISION_LAB_CACHE, else the user's cache folder (XDG_CACHE_HOME)."""
    chosen = os.environ.get("PRECISION_LAB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "precision_lab"


def _key(name: str, x: Float64) -> str:
    digest = hashlib.sha256(f"{VERSION}:{BITS}:{name}:".encode())
    # The definition is the whole module's text: a formula may call its neighbours.
    digest.update(inspect.getsource(basis_module).encode())
    digest.update(inspect.getsource(mp).encode())
    digest.update(np.ascontiguousarray(x, np.float64).tobytes())
    return digest.hexdigest()


def exact_values(name: str, x: Float64) -> tuple[Float64, Float64, Float64]:
    """high, low and radius of the basis function at each finite x, from disk or computed now."""
    directory = cache_directory()
    path = directory / f"{name.replace(chr(39), '_prime')}-{_key(name, x)[:32]}.bin"
    values = _read(path, x.size)
    if values is None:
        values = _compute(name, x)
        _write(path, values)
    return values[0], values[1], values[2]


def _read(path: Path, n: int) -> Float64 | None:
    """The entry, or None if it is missing or not what its checksum says."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) != 32 + 24 * n or hashlib.sha256(data[32:]).digest() != data[:32]:
        warnings.warn(f"cache entry {path.name} is damaged and is computed again", stacklevel=3)
        return None
    return np.frombuffer(data[32:], np.float64).reshape(3, n).copy()


def _write(path: Path, values: Float64) -> None:
    """Store an entry; a folder that cannot be written only costs the next process its time."""
    body = np.ascontiguousarray(values).tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.replace(file.name, path)
    except OSError:
        return


def _compute(name: str, x: Float64) -> Float64:
    """All values; large jobs are shared with interpreters of their own.

    Not with `multiprocessing`: it would import the caller's main module again, which a
    script without a main guard does not survive, or fork a process that runs threads.
    """
    workers = os.cpu_count() or 1
    if x.size < PARALLEL_FROM or workers == 1:
        return compute_chunk(name, x.tolist())
    result = np.empty((3, x.size))
    # Interleaved, because large and small inputs cost differently; this process takes share 0.
    shares = [np.ascontiguousarray(x[i::workers]) for i in range(workers)]
    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(_compute_elsewhere, name, share) for share in shares[1:]]
        result[:, 0::workers] = compute_chunk(name, shares[0].tolist())
        for i, other in enumerate(others, start=1):
            values = other.result()
            result[:, i::workers] = compute_chunk(name, shares[i].tolist()) if values is None else values
    return result


def _compute_elsewhere(name: str, x: Float64) -> Float64 | None:
    """`compute_chunk` in a new interpreter; None if none could be had."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "precision_lab.oracle.worker", name]
    try:
        done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        return None
    values = np.frombuffer(done.stdout, np.float64)
    return values.reshape(3, x.size) if values.size == 3 * x.size else None


def compute_chunk(name: str, x: Sequence[float]) -> Float64:
    """high, low, radius for each x; the ball's own radius plus what the pair cannot hold."""
    formula = BASIS[name].formula
    result = np.empty((3, len(x)))
    for i, value in enumerate(x):
        ball = certain_ball(lambda m, v=value: formula(m, m.constant(v)), BITS)  # type: ignore[misc]
        high = to_float(ball.middle, rnd="n")
        rest = mpf_sub(ball.middle, from_float(high), 200, "n")
        low = to_float(rest, rnd="n")
        rest = mpf_abs(mpf_sub(rest, from_float(low), 200, "n"))
        # to_float rounds to nearest: 2 subnormal steps and 2^-50 more than cover its own rounding.
        radius = to_float(mpf_add(rest, ball.radius, 53, "u")) * (1 + 2.0**-50)
        result[:, i] = high, low, radius + (2.0**-1073 if abs(high) < 2.0**-900 and high != 0 else 0.0)
    return result
