"""No process of the lab's outlives the one that started it, whatever ends that one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from precision_lab.system.children import worker_pool

WORKERS = """
import sys, time
from pathlib import Path
from precision_lab.system.children import worker_pool
from test_children import sleeping

if __name__ == "__main__":
    with worker_pool(2) as pool:
        jobs = [pool.submit(sleeping, sys.argv[1], k) for k in range(2)]
        for job in jobs:
            job.result()
"""
ISOLATED = """
import sys
from precision_lab.verifying.verify import verify
verify(f"{sys.argv[1]}/hangs.py:kernel", "relu", outputs=("forward",), properties=False, time_limit=600)
"""
KERNEL = """
import os, subprocess, sys, time
from pathlib import Path

def kernel(x):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    here = Path(__file__).parent
    (here / "grandchild.pid").write_text(str(child.pid))
    (here / "0.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def sleeping(folder: str, number: int) -> None:
    Path(folder, f"{number}.pid").write_text(str(os.getpid()), encoding="ascii")
    time.sleep(600)
    Path(folder, f"{number}.done").touch()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(script: str, folder: Path, *names: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """The script in a process of its own, and the processes that have written their numbers."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("the system has no /proc")
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, str(path), str(folder)], env=environment, stderr=subprocess.DEVNULL
    )
    files = [folder / f"{name}.pid" for name in names]
    end = time.monotonic() + 120
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return process, [int(file.read_text()) for file in files]


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent, pids = started(WORKERS, tmp_path, "0", "1")
    parent.send_signal(number)
    assert parent.wait(timeout=20) != 0
    assert gone(pids)


def test_an_isolated_kernel_and_what_it_started_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(KERNEL, encoding="utf-8")
    parent, pids = started(ISOLATED, tmp_path, "0", "grandchild")
    parent.kill()
    parent.wait(timeout=20)
    assert gone(pids)


def test_an_interrupt_in_the_parents_block_ends_the_workers_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(sleeping, str(tmp_path), 0)
        while not (tmp_path / "0.pid").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert gone([int((tmp_path / "0.pid").read_text())])
    assert not (tmp_path / "0.done").exists()
