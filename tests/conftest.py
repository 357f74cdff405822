"""What every test shares: how Hypothesis explores, a process without leftovers, what a missing GPU means."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings
from process_state import left_behind, process_state

# Workers share the cores: OpenMP's threads, which spin while they wait, would take them from those they wait
# for. On two cores that was two thirds of the time of a test that trains.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What the libraries made lives as long as the process: looked through for garbage a thousand times, a
# million objects were a tenth of the tests' time.
gc.set_threshold(700, 10, 1000)

# Triton decides when it is imported whether kernels, its own library's included, are interpreted: in a
# process without a GPU they are. Only tests with the fixture `interpreter` run any.
GPUS = glob.glob("/dev/nvidia[0-9]*")
os.environ["TRITON_INTERPRET"] = "0" if GPUS else "1"
with contextlib.suppress(ImportError):
    import triton
    import triton.language  # noqa: F401
del os.environ["TRITON_INTERPRET"]

# Without a deadline: a slow machine is no counterexample. Derandomised, so that a red run
# is red again; HYPOTHESIS_PROFILE=explore looks further and prints how to replay.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


STAYING: set[str] = set()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The order of tests is random, so each finds the process as the first one does.

    torch's generator is seeded anew. What a kernel's file put on the import path, and modules out of
    pytest's folders, are taken away. A switch left on or a patch left in is that test's failure.
    """
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    path, before = list(sys.path), process_state()
    yield
    sys.path[:] = path
    # What was found to stay is not looked at again: two thousand modules, five thousand times.
    for name in sys.modules.keys() - STAYING:
        if "pytest-of-" in str(getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
        else:
            STAYING.add(name)
    left = left_behind(before, process_state())
    assert not left, f"the test left behind, as (before, after): {left}"


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton kernels, and the operators made of them, run in Triton's interpreter on CPU tensors.

    The choice is made when a kernel is defined, so the modules are imported here first.
    """
    if GPUS:
        # Before our kernels are imported: interpreted ones would call a library that is compiled.
        pytest.skip("there is a GPU: Triton compiles its kernels in this process, and test_gpu.py runs them")
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    from precision_lab.kernels import triton_stable

    if not triton_stable.INTERPRETED:
        pytest.skip("Triton's kernels were defined for a GPU in this process")
    yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu say what they miss where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if torch.cuda.is_available():
        return
    if os.environ.get("PRECISION_LAB_REQUIRE_GPU") == "1":
        raise pytest.UsageError("PRECISION_LAB_REQUIRE_GPU=1, and torch sees no CUDA device")
    else:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))
