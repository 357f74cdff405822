"""Processes for kernels that start in a hundredth of a second: forked where torch is imported already.

A server imports what the process of every kernel needs, runs nothing and waits. On a request it forks a
keeper, and that one the process asked for, whose end it reports. So no kernel ever runs in the server, and
no death reaches it. The server ends with the process it serves, however that one ends, and when it has been
idle. What a new process would find otherwise, such as another environment, is another server's.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import IO, ClassVar

IDLE = 120.0  # seconds without a request after which a server ends
START_LIMIT = 300.0  # seconds for importing torch, and for a fork
# pytest names the test in it, and no two tests would share a server.
_NOT_HANDED_ON = "PYTEST_CURRENT_TEST"


class Forked:
    """A process that a server has forked, in a session of its own; as much of `Popen` as isolation needs."""

    def __init__(self, pid: int, stdin: IO[bytes], keeper: socket.socket) -> None:
        self.pid = pid
        self.stdin = stdin
        self._keeper = keeper
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Until `close` its number is no other process's.

        Raises:
            TimeoutExpired: it goes on; or its keeper has died, so that nobody knows.
        """
        if self._code is None:
            ready, _, _ = select.select([self._keeper], [], [], timeout)
            said = self._keeper.recv(64) if ready else b""
            if not said:
                raise subprocess.TimeoutExpired("isolated kernel", timeout or 0.0)
            self._code = int(said)
        return self._code

    def close(self) -> None:
        """Lets go of the process: its keeper ends."""
        self._keeper.close()


class _Server:
    """A process to fork from, for one environment."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=environment,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, pipe: int, noise: int) -> Forked | None:
        """As `fork_process`; None where the server has ended or does not answer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given, stdin = os.pipe()
        with contextlib.ExitStack() as unless_begun:
            unless_begun.callback(ours.close)
            unless_begun.callback(os.close, stdin)
            try:
                with theirs:
                    socket.send_fds(self._control, [b"fork"], [given, pipe, noise, theirs.fileno()])
            except OSError:
                return None
            finally:
                os.close(given)
            ready, _, _ = select.select([ours], [], [], START_LIMIT)
            said = ours.recv(64) if ready else b""
            if not said:
                return None
            unless_begun.pop_all()
        return Forked(int(said), os.fdopen(stdin, "wb"), ours)

    def end(self) -> None:
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


class _Running:
    """The servers of this process, by what they are for; modules hold nothing that changes."""

    lock = threading.Lock()
    servers: ClassVar[dict[str, tuple[_Server, str]]] = {}  # and what each has inherited


def _inherited(command: list[str], environment: Mapping[str, str]) -> str:
    """What a new process takes from this one, and a forked one from its server."""
    import resource  # not on Windows

    limits = [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")]
    affinity = sorted(os.sched_getaffinity(0))
    return json.dumps([
        os.getpid(), command, sorted(environment.items()), os.getcwd(), limits, affinity, os.nice(0),
    ])  # fmt: skip


def server_pid(purpose: str = "") -> int | None:
    """The process that waits to fork others for this one, if there is one."""
    found = _Running.servers.get(purpose)
    return None if found is None else found[0].pid


def fork_process(
    command: list[str], environment: Mapping[str, str], *, pipe: int, noise: int, purpose: str = ""
) -> Forked | None:
    """A process that runs what `serve` was given, with the descriptor `pipe` open beside the standard ones.

    None where there is no server to be had: elsewhere than on Linux, where forking is safe after the
    imports; and where it does not live, whose reasons an ordinary start will tell.

    Args:
        command: starts a server when the number of a descriptor is added.
        noise: its standard output and error.
        purpose: each has a server of its own, such as a device.
    """
    if sys.platform != "linux":
        return None
    environment = {name: value for name, value in environment.items() if name != _NOT_HANDED_ON}
    inherited = _inherited(command, environment)
    with _Running.lock:
        for _ in range(2):  # one that was idle for too long may end at this moment
            known = _Running.servers.get(purpose)
            fresh = known is None or known[1] != inherited
            if fresh:
                _end(purpose)
                _Running.servers[purpose] = (_Server(command, environment), inherited)
            found = _Running.servers[purpose][0].fork(pipe, noise)
            if found is not None:
                return found
            _end(purpose)
            if fresh:
                return None
    return None


def prepare_server(command: list[str], environment: Mapping[str, str], *, purpose: str = "") -> None:
    """Starts the server that `fork_process` then asks: it imports while this process does."""
    if sys.platform != "linux":
        return
    environment = {name: value for name, value in environment.items() if name != _NOT_HANDED_ON}
    inherited = _inherited(command, environment)
    with _Running.lock:
        if purpose not in _Running.servers:
            _Running.servers[purpose] = (_Server(command, environment), inherited)


def _end(purpose: str) -> None:
    known = _Running.servers.pop(purpose, None)
    if known is not None:
        server, inherited = known
        mine = json.loads(inherited)[0] == os.getpid()
        if mine:  # in a fork of the process it serves, it is still that one's
            server.end()


@atexit.register
def _end_all() -> None:
    for purpose in list(_Running.servers):
        _end(purpose)


# -- the server -----------------------------------------------------------------------------


def _prepare(modules: Sequence[str]) -> None:
    """Imports what the process of every kernel imports, and runs none of it."""
    gc.disable()  # nothing that is imported goes, and looking for it takes a sixth of the time
    # Whatever goes wrong here goes wrong in the process of the kernel too, which says so.
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if "numba" in sys.modules:
        with contextlib.suppress(Exception):
            from numba.core.registry import cpu_target

            cpu_target.target_context.refresh()  # numba's own tables, a third of a second
    gc.freeze()  # what is here stays: collected in a fork, it would only be copied
    gc.enable()


def _has_threads() -> bool:
    """Whether there are threads that a fork would lose: who knows of forks ends his before one."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(os.listdir("/proc/self/task")) > 1


def serve(
    control: int,
    child: Callable[[int], None],
    modules: Sequence[str],
    before: Callable[[], None] = lambda: None,
    more: str = "",
    later: Sequence[str] = (),
) -> None:
    """The server: forks a process for every request, until nobody can ask or nobody has asked for long.

    Args:
        control: a socket; each message on it brings the descriptors of `_Server.fork`.
        child: what the process does, given the number of its pipe.
        modules: what is imported first.
        before: what is done before that.
        more: a variable of the environment with further modules, commas between them. Where one starts
            threads, as autograd does, a fork would not be what a new process is: the server begins again
            without them.
        later: modules that a process may do without: imported before the second fork, since who asks for one
            process alone need not wait for them.
    """
    # What goes wrong here goes wrong in the process of the kernel too, which says so.
    with contextlib.suppress(Exception):
        before()
    named = [name.strip() for name in os.environ.get(more, "").split(",") if name.strip()]
    _prepare((*modules, *named))
    if named and _has_threads():
        del os.environ[more]
        os.set_inheritable(control, True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    # Where numpy's BLAS has a thread: it ends it before every fork.
    warnings.filterwarnings("ignore", ".*is multi-threaded.*fork", DeprecationWarning)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are waited for by nobody
    requests = socket.socket(fileno=control)
    forked = False
    while select.select([requests], [], [], IDLE)[0]:
        asked, descriptors, _, _ = socket.recv_fds(requests, 16, 4)
        if not asked:
            return
        if forked and later:
            _prepare(later)
            later = ()
        forked = True
        given, pipe, noise, status = descriptors
        if os.fork() == 0:
            requests.close()
            _keep(given, pipe, noise, status, child)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(given: int, pipe: int, noise: int, status: int, child: Callable[[int], None]) -> None:
    """Forks the process, says its number and its exit code, and holds the number until it may go."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        client = socket.socket(fileno=status)
        pid = os.fork()
        if pid == 0:
            client.close()
            _become(given, pipe, noise, child)
        for descriptor in (given, pipe, noise):
            os.close(descriptor)
        client.send(b"%d" % pid)
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        client.send(b"%d" % code)
        client.recv(1)  # until it is closed
    finally:
        os._exit(0)


def _become(given: int, pipe: int, noise: int, child: Callable[[int], None]) -> None:
    """Makes this fork what a new process is, and runs it."""
    try:
        os.setsid()
        for number, descriptor in enumerate((given, noise, noise)):
            os.dup2(descriptor, number)
        for descriptor in (given, noise):
            os.close(descriptor)
        importlib.invalidate_caches()  # folders may have changed since
        # Python's own generator seeds itself after a fork; numpy's would repeat in every process.
        if (numpy_random := sys.modules.get("numpy.random")) is not None:
            numpy_random.seed()
        child(pipe)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
