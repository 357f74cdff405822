"""The cache: never trusted beyond its checksum, never needed, safe for two processes and plain scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from precision_lab.oracle import cache

X = np.linspace(-3, 3, 25)
SCRIPT = """
import numpy as np
from precision_lab.oracle import cache
cache.PARALLEL_FROM = 10
print(cache.exact_values("atlu", np.linspace(-3, 3, 25))[0].sum().hex())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_second_call_reads_what_the_first_wrote(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.exact_values("gelu", X)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(cache, "_compute", None)
    for a, b in zip(first, cache.exact_values("gelu", X), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_entry_is_computed_again_with_a_warning(folder: Path, damage: str) -> None:
    first = cache.exact_values("gelu", X)
    (entry,) = folder.iterdir()
    data = bytearray(entry.read_bytes())
    data[100] ^= 1
    entry.write_bytes({"flipped": bytes(data), "truncated": bytes(data[:99]), "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged and is computed again"):
        again = cache.exact_values("gelu", X)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(cache.exact_values("gelu", X)[0], first[0])  # replaced: no warning now


def test_an_entry_is_found_only_for_the_same_function_and_inputs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.exact_values("gelu", X)
    other = X.copy()
    other[7] = np.nextafter(other[7], 9)
    for name, x in (("gelu", other), ("gelu'", X), ("gelu", X[::-1]), ("gelu", -0.0 * X)):
        cache.exact_values(name, x)
    assert len(list(folder.iterdir())) == 5
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    cache.exact_values("gelu", X)
    assert len(list(folder.iterdir())) == 6


def test_an_unusable_folder_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "file" / "cache"))
    assert np.isfinite(cache.exact_values("gelu", X)[0]).all()


def test_two_plain_scripts_without_a_main_guard_work_at_once(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(cache.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    runs = [
        subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    outputs = {run.communicate(timeout=120)[0] for run in runs}
    assert outputs == {(cache.exact_values("atlu", X)[0].sum().hex() + "\n").encode()}
    assert all(run.returncode == 0 for run in runs)
    assert len(list(folder.iterdir())) == 1  # no temporary file is left
