"""Processes forked from one that has torch: each is as a new one would be; no death reaches the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_children import gone, started

from precision_lab.devices import CUDA
from precision_lab.running import own_process
from precision_lab.system import warm_start
from precision_lab.system.children import module_path
from precision_lab.verifying.verify import verify

if sys.platform != "linux":
    pytest.skip("forked on Linux alone", allow_module_level=True)

# A server that imports nothing, and whose processes do what they are told.
BARE = """
import json, os, sys
from precision_lab.system import warm_start

def child(pipe):
    os.write(pipe, (json.dumps(eval(sys.stdin.readline())) + "\\n").encode())

warm_start._prepare = lambda modules: sys.modules.update(dict.fromkeys(modules, sys))
warm_start.IDLE = float(sys.argv[1])
warm_start.serve(int(sys.argv[2]), child, ("at first",), later=("later on",))
"""


@pytest.fixture(autouse=True)
def no_server_of_another_test() -> Iterator[None]:
    warm_start._end_all()
    yield
    warm_start._end_all()


class Told:
    """A process of a bare server, told to say what an expression is."""

    def __init__(self, expression: str, *, idle: float = 60.0, **environment: str) -> None:
        self.pipe, pipe = os.pipe()
        noise = os.open(os.devnull, os.O_WRONLY)
        found = warm_start.fork_process(
            [sys.executable, "-P", "-c", BARE, str(idle)],
            {**os.environ, "PYTHONPATH": module_path(), **environment}, pipe=pipe, noise=noise,
        )  # fmt: skip
        os.close(pipe)
        os.close(noise)
        assert found is not None
        self.process = found
        self.process.stdin.write(f"{expression}\n".encode())
        self.process.stdin.close()

    def said(self) -> object:
        with os.fdopen(self.pipe) as pipe:
            line = pipe.readline()
        self.process.close()
        return json.loads(line) if line else None


def test_processes_differ_and_the_server_is_one() -> None:
    first = Told("[os.getpid(), os.getppid(), os.getsid(0)]")
    pid, keeper, session = first.said()  # type: ignore[misc]
    server = warm_start.server_pid()
    assert first.process.pid == pid == session
    other, *_ = Told("[os.getpid()]").said()  # type: ignore[misc]
    assert len({pid, keeper, other, server, os.getpid()}) == 5
    assert warm_start.server_pid() == server


def test_what_a_process_may_do_without_is_imported_before_the_second_is_forked() -> None:
    """Not for the first, who would wait for it; each later one finds it there."""
    loaded = [Told("[m for m in ('at first', 'later on') if m in sys.modules]").said() for _ in range(3)]
    assert loaded == [["at first"], ["at first", "later on"], ["at first", "later on"]]


def test_a_process_has_no_descriptor_but_the_usual_and_its_pipe() -> None:
    before = Told("os.listdir('/proc/self/fd')")  # of which nothing may be seen in the next
    descriptors = Told("os.listdir('/proc/self/fd')").said()
    assert len(descriptors) == 5  # type: ignore[arg-type]  # the fifth is the listing's own
    assert len(before.said()) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("os._exit(0)", 0),
        ("os._exit(86)", 86),
        ("os.kill(os.getpid(), 11)", -11),
        ("os.abort()", -6),
        ("os.kill(os.getpid(), 9)", -9),
        ("1 / 0", 1),
    ],
)
def test_the_end_of_a_process_is_told(what: str, code: int) -> None:
    told = Told(what)
    server = warm_start.server_pid()
    assert told.process.wait(timeout=20) == code
    assert told.process.wait() == code, "and told again"
    assert told.said() is None
    assert Told("1").said() == 1
    assert warm_start.server_pid() == server


def test_a_process_that_goes_on_has_no_code() -> None:
    told = Told("__import__('time').sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired):
        told.process.wait(timeout=0.05)
    os.killpg(told.process.pid, signal.SIGKILL)
    assert told.process.wait(timeout=20) == -signal.SIGKILL
    assert told.said() is None


def test_the_number_of_a_process_is_no_others_until_it_is_let_go() -> None:
    """Else whoever kills its group might kill another's."""
    told = Told("os._exit(0)")
    told.process.wait(timeout=20)
    os.kill(told.process.pid, 0)  # a zombie still has it
    told.said()
    end = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(told.process.pid, 0)
            time.sleep(0.01)


def test_who_ends_its_keeper_is_not_waited_for_in_vain() -> None:
    told = Told("[os.kill(os.getppid(), 9), __import__('time').sleep(600)]")
    server = warm_start.server_pid()
    with pytest.raises(subprocess.TimeoutExpired):
        told.process.wait(timeout=20)
    os.killpg(told.process.pid, signal.SIGKILL)
    told.said()
    assert Told("1").said() == 1
    assert warm_start.server_pid() == server


def test_a_server_that_ended_is_replaced() -> None:
    assert Told("1", idle=0.0).said() == 1  # which waits for nothing after the first
    first = warm_start.server_pid()
    assert first is not None
    assert gone([first])
    assert Told("2", idle=0.0).said() == 2
    assert warm_start.server_pid() != first


def test_one_that_cannot_live_is_no_server() -> None:
    read, write = os.pipe()
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    assert warm_start.fork_process(command, dict(os.environ), pipe=write, noise=write) is None
    assert warm_start.server_pid() is None
    os.close(read)
    os.close(write)


def test_another_environment_or_folder_is_another_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expression = "[os.environ.get('MINE'), os.getcwd()]"
    assert Told(expression).said() == [None, os.getcwd()]
    first = warm_start.server_pid()
    assert Told(expression, MINE="yes").said() == ["yes", os.getcwd()]
    second = warm_start.server_pid()
    monkeypatch.chdir(tmp_path)
    assert Told(expression).said() == [None, str(tmp_path)]
    third = warm_start.server_pid()
    assert len({first, second, third}) == 3
    assert gone([pid for pid in (first, second) if pid is not None])
    # What names the running test makes no difference, and nobody else is told.
    assert Told(expression, PYTEST_CURRENT_TEST="another").said() == [None, str(tmp_path)]
    assert warm_start.server_pid() == third


def test_random_numbers_do_not_repeat_themselves() -> None:
    """Python's and numpy's differ by process; torch's begin with the same seed in every one."""
    expression = "[__import__('random').random(), __import__('numpy').random.random()]"
    imported = "__import__('random'), __import__('numpy')"
    bare = BARE.replace("lambda: None", f"lambda: ({imported})")
    noise = os.open(os.devnull, os.O_WRONLY)
    seen = []
    for _ in range(2):
        read, write = os.pipe()
        environment = {**os.environ, "PYTHONPATH": module_path()}
        found = warm_start.fork_process(
            [sys.executable, "-P", "-c", bare, "60"], environment, pipe=write, noise=noise
        )
        assert found is not None
        found.stdin.write(f"{expression}\n".encode())
        found.stdin.close()
        os.close(write)
        with os.fdopen(read) as pipe:
            seen.append(json.loads(pipe.readline()))
        found.close()
    os.close(noise)
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


KERNELS = """
import os, torch

def good(x):
    return torch.relu(x)

def aborts(x):
    os.abort()
"""


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS, encoding="utf-8")
    return path


def run(kernels: Path, name: str):  # type: ignore[no-untyped-def]
    return verify(f"{kernels}:{name}", "relu", fmts=("bf16",), outputs=("forward",), properties=False)


def test_a_kernels_death_does_not_reach_the_server(kernels: Path) -> None:
    assert run(kernels, "good").passed
    server = warm_start.server_pid()
    assert {fault.kind for fault in run(kernels, "aborts").faults} == {"crashed"}
    assert run(kernels, "good").passed
    assert warm_start.server_pid() == server


def test_a_file_that_was_changed_is_read_again(kernels: Path) -> None:
    assert run(kernels, "good").passed
    kernels.write_text(KERNELS.replace("torch.relu(x)", "-x"), encoding="utf-8")
    assert not run(kernels, "good").passed


@pytest.fixture
def preloaded(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A module that the kernels import and the server is asked to; gives the file of who imported it."""

    def made(name: str, lines: str = "", before: str = "") -> Path:
        folder = kernels.parent
        importers = folder / "importers"
        note = f"import os\nopen({str(importers)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        (folder / f"{name}.py").write_text(note + lines, encoding="utf-8")
        kernels.write_text(f"import {name}\n" + KERNELS, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PRECISION_LAB_PRELOAD", before + name)
        return importers

    return made


def test_modules_that_take_long_are_imported_once(kernels: Path, preloaded: Callable[..., Path]) -> None:
    """In the server, before it forks; one that cannot be imported hinders nobody."""
    importers = preloaded("takes_long", before="no_such_module, ")
    assert run(kernels, "good").passed and run(kernels, "good").passed
    assert importers.read_text(encoding="utf-8") == f"{warm_start.server_pid()}\n"


def test_a_module_that_starts_threads_is_imported_by_each_process(
    kernels: Path, preloaded: Callable[..., Path]
) -> None:
    """Autograd refuses to run in a fork of a process where its threads run: no fault of the kernel."""
    importers = preloaded(
        "has_threads",
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    )
    assert run(kernels, "good").passed
    first = warm_start.server_pid()
    assert run(kernels, "good").passed and warm_start.server_pid() == first
    found = importers.read_text(encoding="utf-8").split()
    assert len(found) == 3 and found[0] == str(first) and len(set(found)) == 3


def test_started_anew_a_process_says_the_same(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a GPU and on other systems."""
    forked = run(kernels, "aborts")
    assert warm_start.server_pid() is not None
    assert "aborted (SIGABRT) at kernels.py, line 8 in aborts" in forked.failures[0]
    monkeypatch.setattr(own_process, "fork_process", lambda *_, **__: None)
    anew = run(kernels, "aborts")
    assert (anew.measurements, anew.faults) == (forked.measurements, forked.faults)


def test_for_a_gpu_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def popen(command: list[str], **_: object) -> None:
        asked.append(command)
        raise OSError("no process, thank you")

    monkeypatch.setattr(own_process, "fork_process", lambda *_, **__: pytest.fail("forked"))
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="thank you"):
        own_process.started("precision_lab.verifying.kernel_process", CUDA, 5, 1, "")
    assert asked[0][-2:] == ["precision_lab.verifying.kernel_process", "5"]


SERVED = """
import os, sys, time
from precision_lab.system import warm_start
from precision_lab.verifying.verify import verify
verify(f"{sys.argv[1]}/kernels.py:good", "relu", fmts=("bf16",), outputs=("forward",), properties=False)
with open(f"{sys.argv[1]}/server.pid", "w") as file:
    file.write(str(warm_start.server_pid()))
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_server_ends_with_whom_it_serves(kernels: Path, tmp_path: Path, number: signal.Signals) -> None:
    parent, pids = started(SERVED, tmp_path, "server")
    parent.send_signal(number)
    parent.wait(timeout=20)
    assert gone(pids)


def test_what_the_server_imports_starts_nothing_that_a_fork_would_lose() -> None:
    """Threads do not live on in a fork, nor does a driver; what is imported needs neither.

    The linear algebra of numpy and scipy has threads, and ends them itself before a fork.
    """
    script = """
import json, os, sys
from precision_lab.system import warm_start
from precision_lab.verifying.kernel_process import COMPILING, WARM
warm_start._prepare((*WARM, *COMPILING))
if os.fork() == 0:
    os._exit(0)
threads = len(os.listdir("/proc/self/task"))
started = sorted({"jax", "mlx", "triton", "transformers"} & set(sys.modules))
prepared = "precision_lab.oracle.reference" in sys.modules
print(json.dumps([threads, started, prepared, sys.modules["torch"].cuda.is_initialized()]))
"""
    environment = {**os.environ, "PYTHONPATH": module_path()}
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [1, [], True, False]
