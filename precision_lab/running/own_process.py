"""Calls a function of the lab's in the process of a device that only exists in one of its own.

What goes there and back is pickled. The process is forked from one that has imported torch and made the
device, so that it starts at once; it runs one call and ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from precision_lab.devices import Device, get_device
from precision_lab.exceptions import InternalError, KernelError, UsageError
from precision_lab.system.children import module_path, tie_to_parent
from precision_lab.system.progress import Progress
from precision_lab.system.warm_start import Forked, fork_process, prepare_server, serve
from precision_lab.virtual_gpu.settings import DEVICE

P = ParamSpec("P")
R = TypeVar("R")

SERVER = "server"  # the argument of a process that forks others
_MODULE = "precision_lab.running.own_process"
_WARM = (
    "precision_lab.measuring.measure", "precision_lab.running.selfcheck", "precision_lab.scoring.scorer",
)  # fmt: skip
_WORDS = 2000  # characters of what a process that died has said


def on(device: Device, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """What the function gives: called here, or in the process of a device that has its own.

    Args:
        function: of a module, by whose name another process finds it; if it takes `progress`, what it is
            told there is told here.

    Raises:
        What the function raises.
        ValueError: something that is handed over cannot be pickled.
        KernelError: the process died.
    """
    if not device.own_process or os.environ.get(DEVICE) == device.name:
        return function(*args, **kwargs)
    device.check()
    progress: Any = kwargs.get("progress")
    given = {name: value for name, value in kwargs.items() if name != "progress"}
    try:
        job = pickle.dumps((function, args, given, progress is not None))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"device={device.name!r}: it has its own process, to which this cannot be handed over: {error}"
        ) from error
    found: R = _asked(device, job, progress)
    return found


def prepare(module: str, device: Device, purpose: str) -> None:
    """Starts what `started` forks from, before this process imports what takes long itself."""
    if not device.is_accelerator:
        command, environment = _command(module, device)
        prepare_server([*command, SERVER], environment, purpose=purpose)


def _command(module: str, device: Device) -> tuple[list[str], dict[str, str]]:
    inherited: dict[str, str | None] = {**os.environ, "PYTHONPATH": module_path(), **device.variables()}
    environment = {name: value for name, value in inherited.items() if value is not None}
    return [sys.executable, "-P", "-X", "faulthandler", "-m", module], environment


def started(
    module: str, device: Device, pipe: int, noise: int, purpose: str
) -> Forked | subprocess.Popen[bytes]:
    """A new process of a device, which runs a module that is given the number of a pipe.

    Forked where that may be, from a server that the same module makes when given `SERVER`, since importing
    torch takes seconds. Not for a GPU: a driver, once it was asked for anything, does not survive a fork.

    Args:
        noise: its standard output and error.
        purpose: as `fork_process`.
    """
    command, environment = _command(module, device)
    if not device.is_accelerator:
        found = fork_process([*command, SERVER], environment, pipe=pipe, noise=noise, purpose=purpose)
        if found is not None:
            return found
    return subprocess.Popen(
        [*command, str(pipe)], stdin=subprocess.PIPE, stdout=noise, stderr=noise, pass_fds=(pipe,),
        env=environment, start_new_session=True,
    )  # fmt: skip


def _asked(device: Device, job: bytes, progress: Progress | None) -> Any:
    read, write = os.pipe()
    with tempfile.TemporaryFile() as noise, os.fdopen(read, "rb") as answers:
        process = started(_MODULE, device, write, noise.fileno(), f"call {device.name}")
        os.close(write)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # that it has died shows below
                process.stdin.write(len(job).to_bytes(8, "little") + job)
                process.stdin.flush()
            return _heard(device, answers, progress, process, noise)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            if isinstance(process, Forked):
                process.close()


def _heard(device: Device, answers: Any, progress: Progress | None, process: Any, noise: Any) -> Any:
    while True:
        size = answers.read(8)
        content = answers.read(int.from_bytes(size, "little")) if len(size) == 8 else b""
        if len(size) < 8 or len(content) < int.from_bytes(size, "little"):
            break
        kind, value = pickle.loads(content)
        if kind == "progress":
            if progress is not None:
                progress(*value)
        elif kind == "raised":
            raise value
        elif kind == "internal":
            raise InternalError(*value)
        else:
            return value
    code: int | None = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(timeout=10)
    noise.seek(0)
    said = noise.read().decode(errors="replace").strip()[-_WORDS:]
    last = said.splitlines()[-1] if said else "nothing"
    ended = "was killed" if code is None else f"ended with {'signal' if code < 0 else 'code'} {abs(code)}"
    raise KernelError("crashed", f"the process of {device.name} {ended}; the last it said: {last}")


# -- the process -----------------------------------------------------------------------------------


def make_device() -> None:
    """Makes the device that this process was started for, if any."""
    name = os.environ.get(DEVICE)
    if name is not None:
        get_device(name).require()


def _work(pipe: int) -> None:
    """Reads a job on standard input, does it, and writes what comes of it to the pipe."""
    with os.fdopen(os.dup(0), "rb", closefd=False) as given:
        job = given.read(int.from_bytes(given.read(8), "little"))
        tie_to_parent(given.fileno())
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's affair, who ends this
    one_at_a_time = Lock()  # threads report progress
    with os.fdopen(pipe, "wb") as answers:

        def put(kind: str, value: Any) -> None:
            content = pickle.dumps((kind, value))
            with one_at_a_time:
                answers.write(len(content).to_bytes(8, "little") + content)
                answers.flush()

        try:
            make_device()
            function, args, kwargs, listens = pickle.loads(job)
            if listens:
                kwargs["progress"] = lambda *words: put("progress", words)
            put("done", function(*args, **kwargs))
        except BaseException as error:
            _tell(put, error)
    os._exit(0)  # a library's threads or exit handlers may hang at the end


def _tell(put: Callable[[str, Any], None], error: BaseException) -> None:
    trace = traceback.format_exc()
    if isinstance(error, InternalError):
        put("internal", (str(error), error.trace))
        return
    try:
        content: Mapping[str, Any] = {"error": pickle.loads(pickle.dumps(error))}
    except Exception:
        content = {}
    if "error" in content:
        put("raised", content["error"])
    else:
        put("internal", (f"{type(error).__name__}: {error}", trace))


def main() -> None:
    """The process, or the server that forks it."""
    if sys.argv[1] == SERVER:
        serve(int(sys.argv[2]), _work, _WARM, make_device)
        os._exit(0)
    _work(int(sys.argv[1]))


if __name__ == "__main__":
    main()
