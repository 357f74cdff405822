"""Runs a stranger's kernel in a process of its own: a crash, a hang or a kill becomes a named fault.

The child runs `trial.events` and writes each event as one line of JSON to a pipe. Should it die or
fall silent, the stage it was in has failed, and a new child goes on with the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from precision_lab.exceptions import DeviceLostError, EnvironmentAltersResultsError
from precision_lab.results import Failure, Fault, Measurement
from precision_lab.trial import (
    PLAIN_CALL,
    Begin,
    Event,
    Examined,
    Measured,
    Plan,
    Report,
)

START_LIMIT = 300.0  # seconds for importing torch and the kernel's own module
# Frames in these are not the kernel's own.
_LIBRARIES = (sys.prefix, sys.base_prefix, str(Path(__file__).parent), "<frozen")
_SIGNALS = {
    "SIGSEGV": "illegal memory access",
    "SIGBUS": "illegal memory access",
    "SIGABRT": "aborted",
    "SIGFPE": "arithmetic trap",
    "SIGILL": "illegal instruction",
}
LOST = 86  # exit code of a child whose kernel destroyed the CUDA context
NARROW = (256, 1)  # elements per call when looking for the inputs that kill


class _Child:
    """A process that runs one plan; what it says arrives line by line."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        read, write = os.pipe()
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "precision_lab.isolation", str(write)],
            stdin=subprocess.PIPE, stdout=self._noise, stderr=self._noise, pass_fds=(write,), env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(write)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once: that shows when it is read
        self._pipe = read
        self._rest = b""
        self._ready = selectors.DefaultSelector()
        self._ready.register(read, selectors.EVENT_READ)

    def line(self, limit: float) -> dict[str, Any] | None:
        """The next line; None when there are no more.

        Raises:
            TimeoutError: nothing came within `limit` seconds.
        """
        end = time.monotonic() + limit
        while b"\n" not in self._rest:
            if not self._ready.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            data = os.read(self._pipe, 1 << 20)
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> int:
        """Ends the process, and all that it started; its exit code."""
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if code is None:
            code = self._process.wait()
        self._ready.close()
        os.close(self._pipe)
        return code

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def last_words(self) -> str:
        """Where in Python it died, if it said so, else the end of what it printed."""
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").splitlines()
        frames = [line.strip().split('"') for line in lines if line.strip().startswith('File "')]
        if any("most recent call first" in line for line in lines):
            for _, file, place in (frame for frame in frames if len(frame) == 3):
                if not file.startswith(_LIBRARIES):
                    return f"at {Path(file).name}{place}"
        said = [line for line in lines if line.strip()]
        return f"having said {said[-1]!r}" if said else ""

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *details: Any) -> None:
        if self._process.poll() is None:
            self.kill()
        self._noise.close()


def isolated_events(
    plan: Plan,
    target: str,
    *,
    framework: str | None,
    compiled: bool,
    time_limit: float,
    progress: Report | None = None,
    device: str = "cpu",
) -> Iterator[Event]:
    """`trial.events` of a TARGET, out of a child process that may die.

    Args:
        time_limit: seconds in which an event must come; loading the kernel has longer.

    Raises:
        ValueError: the TARGET is of no use, in the words of `target.find`; or loading it kills or
            hangs the process; time_limit is not positive.
        EnvironmentAltersResultsError: as `trial.events`.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit={time_limit!r}: must be a positive number of seconds")
    how = {"target": target, "framework": framework, "compiled": compiled, "device": device}
    while True:
        stage: Begin | None = None
        finished: list[str] = []
        with _Child({**how, "plan": plan.to_json()}) as child:
            try:
                while (line := child.line(time_limit if stage else START_LIMIT)) is not None:
                    if "end" in line:
                        return
                    if "error" in line:
                        kind = EnvironmentAltersResultsError if line["kind"] == "environment" else ValueError
                        raise kind(line["error"])
                    if "done" in line:
                        if progress is not None:
                            progress(line["done"], line["total"])
                        continue
                    event = _decode(line)
                    if isinstance(event, Begin):
                        if stage is not None and not stage.stage.startswith(PLAIN_CALL):
                            finished.append(stage.stage)
                        stage = event
                    yield event
                code = child.stop()
                failure = _death(code, child.last_words())
            except TimeoutError:
                child.kill()
                failure = Failure("hung", f"no answer within {time_limit:g} s {child.last_words()}".rstrip())
        if stage is None:
            raise ValueError(f"TARGET {target!r} cannot be loaded: {failure.kind}: {failure.message}")
        plan = replace(plan, done=(*plan.done, *finished))
        several = len(stage.blanks) > 1
        if several:
            _, fmt, name, _ = stage.stage.split(" ", 3)
            plan = replace(plan, one_by_one=(*plan.one_by_one, f"{fmt} {name}"))
            continue
        plan = replace(plan, done=(*plan.done, stage.stage))
        if stage.blanks:
            where = _narrowed(plan, how, stage.blanks[0], min(time_limit, 30.0))
            blank = replace(stage.blanks[0], failure=Failure(failure.kind, f"{failure.message}; {where}"))
            yield Measured(blank)
        else:
            yield Examined((_property_fault(plan, target, stage.stage, failure),), ())


def _property_fault(plan: Plan, target: str, stage: str, failure: Failure) -> Fault:
    what, fmt, name, *prop = stage.replace(PLAIN_CALL, "plain").split(" ")
    where = (
        f"while the property {prop[0]} was examined" if prop else "in a plain call on a few thousand inputs"
    )
    if what == "against":
        where = f"while {plan.against} was measured"
    kernel = target.rpartition(":")[2]
    return Fault(failure.kind, plan.function, kernel, fmt, "", name, f"{failure.message}, {where}")


def _death(code: int, words: str) -> Failure:
    """What the end of a process means that had not finished."""
    said = f" {words}" if words else ""
    if code == LOST:
        return Failure("crashed", words.removeprefix("having said ").strip("'\""))
    if code == -signal.SIGKILL:
        return Failure(
            "out_of_memory",
            f"the process was killed (SIGKILL), as the system does when memory runs out{said}",
        )
    if code < 0:
        name = signal.Signals(-code).name
        return Failure("crashed", f"{_SIGNALS.get(name, 'killed')} ({name}){said}")
    return Failure("crashed", f"the process ended with exit code {code} in the middle of its work{said}")


def _narrowed(plan: Plan, how: Mapping[str, Any], blank: Measurement, time_limit: float) -> str:
    """The inputs that lead to a death: looked for in calls of 256 elements, then of one."""
    window: tuple[int, int] | None = None
    words = ""
    for size in NARROW:
        job = {
            **how, "plan": plan.to_json(), "size": size, "window": window,
            "narrow": [blank.fmt, blank.params_name, blank.output],
        }  # fmt: skip
        reached: tuple[int, int, str] | None = None
        died = True
        with _Child(job) as child:
            try:
                while (line := child.line(time_limit if reached else START_LIMIT)) is not None:
                    if "end" in line:
                        died = False
                        break
                    reached = (line["first"], line["end_before"], line["words"])
                child.stop()
            except TimeoutError:
                child.kill()
        if reached is None:
            return "the inputs that led to it could not be found"
        if not died:
            if window is None:
                return f"with all inputs in one call, not in calls of {size} elements"
            return f"in a call of the {window[1] - window[0]} inputs {words}, not for each of them alone"
        window, words = (reached[0], reached[1]), reached[2]
    return f"the input that leads to it: {words}"


def _decode(line: Mapping[str, Any]) -> Event:
    if "begin" in line:
        return Begin(line["begin"], tuple(Measurement.from_json(m) for m in line["blanks"]))
    if "measurement" in line:
        return Measured(Measurement.from_json(line["measurement"]), line["baseline"])
    return Examined(tuple(Fault.from_json(f) for f in line["faults"]), tuple(line["notes"]))


# -- the child ------------------------------------------------------------------------------


def _encode(event: Event) -> dict[str, Any]:
    if isinstance(event, Begin):
        return {"begin": event.stage, "blanks": [m.to_json() for m in event.blanks]}
    if isinstance(event, Measured):
        return {"measurement": event.measurement.to_json(), "baseline": event.baseline}
    else:
        return {"faults": [asdict(f) for f in event.faults], "notes": list(event.notes)}


def _serve(job: Mapping[str, Any], put: Any) -> None:
    from precision_lab.implementations.placement import on_device
    from precision_lab.target import find
    from precision_lab.trial import events

    plan = Plan.from_json(job["plan"])
    try:
        implementation = find(
            job["target"], plan.function, plan.fmts, framework=job["framework"], compiled=job["compiled"]
        )
        implementation = on_device(implementation, job["device"])
        if "narrow" in job:
            _narrow(job, plan, implementation, put)
        else:
            for event in events(
                plan, implementation, lambda done, total: put({"done": done, "total": total})
            ):
                put(_encode(event))
    except DeviceLostError as error:
        # A context cannot be had back: the process ends here, in the middle of its work, and another
        # one goes on with the next stage.
        print(error, file=sys.stderr, flush=True)
        os._exit(LOST)
    except EnvironmentAltersResultsError as error:
        put({"error": str(error), "kind": "environment"})
    except (ValueError, ImportError) as error:
        put({"error": str(error), "kind": "use"})
    put({"end": True})


def _narrow(job: Mapping[str, Any], plan: Plan, implementation: Any, put: Any) -> None:
    """Calls the kernel on `size` inputs at a time, saying beforehand on which."""
    import numpy as np

    from precision_lab.formats import get_format
    from precision_lab.implementations.runner import run
    from precision_lab.inputs import input_set
    from precision_lab.measure import default_inputs

    name, params_name, output = job["narrow"]
    fmt, params = get_format(name), plan.parameter_sets[params_name]
    spec = default_inputs(fmt) if fmt.bits > 16 else "exhaustive"
    bits = input_set(spec, fmt, plan.function, params)[1]
    first, end = job["window"] or (0, bits.size)
    for start in range(first, end, job["size"]):
        part = bits[start : min(start + job["size"], end)]
        x = fmt.decode(part)
        shown = [f"{float(v)!r} ({float(v).hex()}, bits 0x{int(b):0{fmt.bits // 4}x})" for v, b in
                 zip(x[[0, -1]], part[[0, -1]], strict=True)]  # fmt: skip
        words = f"x={shown[0]}" if part.size == 1 else f"from {shown[0]} to {shown[1]}"
        put({"first": start, "end_before": start + int(part.size), "words": words})
        run(implementation, np.asarray(part), fmt.name, params, (output,))


def main() -> None:
    """The child: a job on standard input, events to the pipe whose number is its argument."""
    pipe = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1)
    # Should memory run out, this process is the one to go.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    job = json.loads(sys.stdin.buffer.read())

    def put(line: Mapping[str, Any]) -> None:
        pipe.write(json.dumps(line) + "\n")

    _serve(job, put)
    pipe.flush()
    # A library's threads or exit handlers may hang at the end; everything has been said.
    os._exit(0)


if __name__ == "__main__":
    main()
