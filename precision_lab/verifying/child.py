"""The lab's end of a kernel's process: starts it, hears what it says, and tells what its end means."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precision_lab.devices import Device
from precision_lab.exceptions import LIBRARIES
from precision_lab.implementations.adapters.target import LIBRARIES as SUFFIXES
from precision_lab.results import Failure
from precision_lab.running.own_process import started
from precision_lab.system.warm_start import Forked
from precision_lab.verifying.kernel_process import CLOSED, LOST, STRAY

_MODULE = "precision_lab.verifying.kernel_process"
_SIGNALS = {
    "SIGSEGV": "illegal memory access",
    "SIGBUS": "illegal memory access",
    "SIGABRT": "aborted",
    "SIGFPE": "arithmetic trap",
    "SIGILL": "illegal instruction",
}
NOISE = 1 << 20  # bytes of what it printed that are looked at, from the end
LONGEST = 1 << 26  # bytes of one line; what the child says of the largest kernel is a hundredth of it


class Disturbed(Exception):
    """Something else than the child's own words stood on its pipe."""

    def __init__(self, line: bytes) -> None:
        super().__init__(
            f"the kernel wrote {line[:80].decode(errors='replace')!r} to the descriptor that the lab's own "
            "report goes to"
        )


class Child:
    """A process that runs one plan; what it says arrives line by line."""

    def __init__(self, job: Mapping[str, Any], device: Device) -> None:
        read, write = os.pipe()
        self._noise, noise = os.pipe()
        os.set_blocking(self._noise, False)
        self._said = bytearray()  # the end of what it printed
        # What the child says carries this and a running number: anything else on its pipe is the kernel's.
        self._key = secrets.token_hex(8)
        self._lines = 0
        self._stopped = False
        self._process = started(_MODULE, device, write, noise, device.name if device.own_process else "")
        os.close(write)
        os.close(noise)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: that shows when it is read
            # One line; the pipe stays open, since its end is how the child learns of this process's.
            self._process.stdin.write(json.dumps({**job, "key": self._key}).encode() + b"\n")
            self._process.stdin.flush()
        self._pipe = read
        self._parts: list[bytes] = []  # of a line that is not whole yet
        self._whole: list[bytes] = []
        self._ready = selectors.DefaultSelector()
        self._ready.register(read, selectors.EVENT_READ)
        self._ready.register(self._noise, selectors.EVENT_READ)

    def line(self, limit: float) -> dict[str, Any] | None:
        """The next line; None when there are no more.

        Raises:
            TimeoutError: nothing came within `limit` seconds.
            Disturbed: what came is not what the child says.
        """
        end = time.monotonic() + limit
        while not self._whole:
            ready = {key.fd for key, _ in self._ready.select(max(0.0, end - time.monotonic()))}
            if self._noise in ready and not self._listen():
                self._ready.unregister(self._noise)
            if self._pipe not in ready:
                if time.monotonic() >= end:
                    raise TimeoutError
                continue
            data = os.read(self._pipe, 1 << 20)
            if not data:
                return None
            first, *others = data.split(b"\n")
            self._parts.append(first)
            if others:
                self._whole = [b"".join(self._parts), *others[:-1]]
                self._parts = [others[-1]]
            elif sum(map(len, self._parts)) > LONGEST:
                raise Disturbed(b"".join(self._parts[:2]))
        line = self._whole.pop(0)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise Disturbed(line) from None
        if not isinstance(found, dict) or (found.get("key"), found.get("n")) != (self._key, self._lines):
            raise Disturbed(line)
        self._lines += 1
        return found

    def _listen(self) -> bool:
        """Takes a part of what it has printed; False where there is none, and at its end."""
        try:
            heard = os.read(self._noise, 1 << 20)
        except BlockingIOError:
            return False
        self._said += heard
        if len(self._said) > 2 * NOISE:
            del self._said[:-NOISE]
        return bool(heard)

    def stop(self) -> int | None:
        """Ends the process, and all that it started; its exit code, None where it had not ended by itself."""
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a kernel may have ended who waits for it
            self._process.wait(timeout=10)
        self._stopped = True
        return code

    def kill(self) -> None:
        if self._stopped:
            return  # its number may be another's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def last_words(self) -> str:
        """Where in Python it died, if it said so, else the end of what it printed."""
        self._listen()  # what was still in the pipe
        lines = self._said[-NOISE:].decode(errors="replace").splitlines()
        frames = [line.strip().split('"') for line in lines if line.strip().startswith('File "')]
        if any("most recent call first" in line for line in lines):
            for _, file, place in (frame for frame in frames if len(frame) == 3):
                if not file.startswith(LIBRARIES):
                    return f"at {Path(file).name}{place}"
        # A fault handler's own report names the lab's frames and every extension module; neither helps.
        said = [line for line in lines if line.strip()]
        fatal = next((i for i, line in enumerate(said) if line.startswith("Fatal Python error")), len(said))
        return f"having said {said[fatal - 1]!r}" if fatal else ""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *details: Any) -> None:
        # Also where it ended by itself: what it started may go on, and this end of its pipes is open.
        self.kill()
        self._ready.close()
        os.close(self._pipe)
        os.close(self._noise)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if isinstance(self._process, Forked):
            self._process.close()


def death(code: int | None, words: str, target: str) -> Failure:
    """What the end of a process means that had not finished; None: it has not ended, only its pipe has."""
    library, _, symbol = target.rpartition(":")
    if Path(library).suffix in SUFFIXES and not words.startswith("at "):
        words = f"in {symbol} of {Path(library).name}"
    said = f" {words}" if words else ""
    if code in (LOST, STRAY):
        kind = "crashed" if code == LOST else "raised"
        return Failure(kind, words.removeprefix("having said ").strip("'\""))
    if code in (None, CLOSED):
        return Failure("disturbs_report", "the kernel closed the descriptor of the lab's own report")
    if code == -signal.SIGKILL:
        return Failure(
            "out_of_memory",
            f"the process was killed (SIGKILL), as the system does when memory runs out{said}",
        )
    if code < 0:
        name = signal.Signals(-code).name
        return Failure("crashed", f"{_SIGNALS.get(name, 'killed')} ({name}){said}")
    return Failure("crashed", f"the process ended with exit code {code} in the middle of its work{said}")
