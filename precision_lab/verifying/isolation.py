"""Runs a stranger's kernel in a process of its own: a crash, a hang or a kill becomes a named fault.

The child runs `trial.events` and writes each event as one line of JSON to a pipe. Should it die or
fall silent, the stage it was in has failed, and a new child goes on with the next.

This keeps accidents apart; it is no security boundary. The kernel runs in the child with all of the
user's rights, and one that means to can read the key of its job and forge a report.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import pickle
import secrets
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from precision_lab.devices import CPU, Device, get_device
from precision_lab.exceptions import (
    LIBRARIES,
    DeviceLostError,
    EnvironmentAltersResultsError,
    InternalError,
    KernelError,
    MissingPackageError,
    UsageError,
    first_line,
    give_process_to_kernel,
)
from precision_lab.implementations.adapters.target import LIBRARIES as SUFFIXES
from precision_lab.results import Examination, Failure, Finding, Measurement, NotExamined
from precision_lab.system.children import module_path, tie_to_parent
from precision_lab.system.progress import Progress
from precision_lab.system.warm_start import Forked, fork_process, serve
from precision_lab.verifying.plan import (
    LAWS,
    PLAIN_CALL,
    Begin,
    Event,
    Examined,
    Measured,
    Plan,
    Planned,
)

_COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "precision_lab.verifying.isolation")
START_LIMIT = 300.0  # seconds for importing torch and the kernel's own module
_SIGNALS = {
    "SIGSEGV": "illegal memory access",
    "SIGBUS": "illegal memory access",
    "SIGABRT": "aborted",
    "SIGFPE": "arithmetic trap",
    "SIGILL": "illegal instruction",
}
# Exit codes of a child that cannot go on: its kernel destroyed the CUDA context, took its pipe away, or
# raised outside of a call.
LOST, CLOSED, STRAY = 86, 87, 88
NOISE = 1 << 20  # bytes of what it printed that are looked at, from the end
LONGEST = 1 << 26  # bytes of one line; what the child says of the largest kernel is a hundredth of it
HANGS = 2  # stages in which a kernel may hang before it is left alone
SERVER = "server"  # the argument of a process that forks others
# What the process of every kernel imports, so that it has been by the one that forks them.
WARM = (
    "precision_lab.measuring.measure", "precision_lab.verifying.properties.registry",
    "precision_lab.running.runner", "precision_lab.running.selfcheck", "precision_lab.verifying.verdict",
)  # fmt: skip
NARROW = (256, 1)  # elements per call when looking for the inputs that kill


def _packed(plan: Plan) -> str:
    """A plan as a line of a job: it may hold a function or a format of the user's own."""
    return base64.b64encode(pickle.dumps(plan)).decode()


class _Disturbed(Exception):
    """Something else than the child's own words stood on its pipe."""

    def __init__(self, line: bytes) -> None:
        super().__init__(
            f"the kernel wrote {line[:80].decode(errors='replace')!r} to the descriptor that the lab's own "
            "report goes to"
        )


def _started(pipe: int, noise: int, *, forked: bool) -> subprocess.Popen[bytes] | Forked:
    """A new process that reads a job; forked where that may be, since importing torch takes seconds.

    Not for a GPU: a driver, once it was asked for anything, does not survive a fork.
    """
    environment = {**os.environ, "PYTHONPATH": module_path()}
    if forked:
        found = fork_process([*_COMMAND, SERVER], environment, pipe=pipe, noise=noise)
        if found is not None:
            return found
    return subprocess.Popen(
        [*_COMMAND, str(pipe)], stdin=subprocess.PIPE, stdout=noise, stderr=noise, pass_fds=(pipe,),
        env=environment, start_new_session=True,
    )  # fmt: skip


class _Child:
    """A process that runs one plan; what it says arrives line by line."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        read, write = os.pipe()
        self._noise, noise = os.pipe()
        os.set_blocking(self._noise, False)
        self._said = bytearray()  # the end of what it printed
        # What the child says carries this and a running number: anything else on its pipe is the kernel's.
        self._key = secrets.token_hex(8)
        self._lines = 0
        self._stopped = False
        self._process = _started(write, noise, forked=not get_device(job["device"]).is_accelerator)
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
            _Disturbed: what came is not what the child says.
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
                raise _Disturbed(b"".join(self._parts[:2]))
        line = self._whole.pop(0)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise _Disturbed(line) from None
        if not isinstance(found, dict) or (found.get("key"), found.get("n")) != (self._key, self._lines):
            raise _Disturbed(line)
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

    def __enter__(self) -> _Child:
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


def isolated_events(
    plan: Plan,
    target: str,
    *,
    framework: str | None,
    compiled: bool,
    time_limit: float,
    progress: Progress | None = None,
    device: Device = CPU,
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
        raise UsageError(f"time_limit={time_limit!r}: must be a positive number of seconds")
    how = {"target": target, "framework": framework, "compiled": compiled, "device": device.name}
    hangs = 0
    together: tuple[Measurement, ...] = ()  # of a call that hung, what is still to be told apart
    while True:
        stage: Begin | None = None
        doing = ""
        finished: list[str] = []
        with _Child({**how, "plan": _packed(plan)}) as child:
            try:
                while (line := child.line(time_limit if stage else START_LIMIT)) is not None:
                    if "end" in line:
                        return
                    if "error" in line:
                        if line["kind"] == "lab":
                            raise InternalError(line["error"], line["trace"])
                        if line["kind"].startswith("kernel "):
                            raise KernelError(line["kind"].removeprefix("kernel "), line["error"])
                        kind = EnvironmentAltersResultsError if line["kind"] == "environment" else UsageError
                        raise kind(line["error"])
                    if "doing" in line:
                        doing = line["doing"]
                        continue
                    if "done" in line:
                        if progress is not None:
                            progress(line["stage"], line["done"], line["total"])
                        continue
                    event = _decode(line)
                    if isinstance(event, Begin):
                        if stage is not None and not stage.stage.startswith(PLAIN_CALL):
                            finished.append(stage.stage)
                        stage, doing = event, ""
                    yield event
                code = child.stop()
                failure = _death(code, child.last_words(), target)
            except _Disturbed as error:
                child.kill()
                failure = Failure("disturbs_report", str(error))
            except TimeoutError:
                child.kill()
                failure = Failure("hung", f"no answer within {time_limit:g} s {child.last_words()}".rstrip())
        if stage is None:
            raise UsageError(f"TARGET {target!r} cannot be loaded: {failure.kind}: {failure.message}")
        plan = replace(plan, done=(*plan.done, *finished))
        hung = failure.kind == "hung"
        if len(stage.blanks) > 1 and not (hung and hangs):
            _, fmt, name, _ = stage.stage.split(" ", 3)
            plan = replace(plan, one_by_one=(*plan.one_by_one, f"{fmt} {name}"))
            together = stage.blanks if hung else ()
            continue
        hangs += hung
        plan = replace(plan, done=(*plan.done, stage.stage))
        if doing:
            failure = replace(failure, message=f"{failure.message}, called with {doing}")
        if not stage.blanks:
            yield _property_died(plan, target, stage.stage, failure)
        elif len(stage.blanks) > 1 or failure.kind == "disturbs_report":
            yield from (Measured(replace(blank, failure=failure)) for blank in stage.blanks)
        else:
            where = _narrowed(plan, how, stage.blanks[0], min(time_limit, 30.0))
            failure = Failure(failure.kind, f"{failure.message}; {where}")
            # A forward that hangs takes every gradient with it, and so does a backward, which gives them all.
            group = [(b.fmt, b.params_name, b.output) for b in together]
            alone = next((b.fmt, b.params_name, b.output) for b in stage.blanks)
            rest = together[group.index(alone) :] if hung and alone in group else stage.blanks
            for blank in rest:
                yield Measured(replace(blank, failure=failure))
                one = f"accuracy {blank.fmt} {blank.params_name} {blank.output}"
                plan = replace(plan, done=(*plan.done, one))
        if hangs == HANGS:
            yield Examined(notes=(f"it has hung in {HANGS} stages, and what is left was not run",))
            return


def _property_died(plan: Plan, target: str, stage: str, failure: Failure) -> Examined:
    what, fmt, name, *prop = stage.replace(PLAIN_CALL, "plain").split(" ")
    examined = LAWS if what == LAWS else prop[0] if prop else ""
    where = {
        "against": f"while {plan.against} was measured",
        LAWS: "while the laws were checked",
        "property": f"while the property {examined} was examined",
    }.get(what, "in a plain call on a few thousand inputs")
    kernel = target.rpartition(":")[2]
    fault = Finding(
        code=failure.kind, function=plan.function.name, implementation=kernel, fmt=fmt, params_name=name,
        message=f"{failure.message}, {where}",
    )  # fmt: skip
    examination = Examination(examined, fmt, name, "broken") if examined else None
    return Examined((fault,), examination=examination)


def _death(code: int | None, words: str, target: str) -> Failure:
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


def _narrowed(plan: Plan, how: Mapping[str, Any], blank: Measurement, time_limit: float) -> str:
    """The inputs that lead to a death: looked for in calls of 256 elements, then of one."""
    window: tuple[int, int] | None = None
    words = ""
    for size in NARROW:
        job = {
            **how, "plan": _packed(plan), "size": size, "window": window,
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
            except (TimeoutError, _Disturbed):
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
    if "planned" in line:
        return Planned(tuple(line["planned"]), tuple(line["sets"]))
    if "begin" in line:
        return Begin(line["begin"], tuple(Measurement.from_json(m) for m in line["blanks"]))
    if "measurement" in line:
        return Measured(Measurement.from_json(line["measurement"]), line["baseline"])
    return Examined(
        tuple(Finding.from_json(f) for f in line["faults"]),
        tuple(line["notes"]),
        tuple(NotExamined.from_json(g) for g in line["not_examined"]),
        None if line["examination"] is None else Examination.from_json(line["examination"]),
    )


# -- the child ------------------------------------------------------------------------------


def _encode(event: Event) -> dict[str, Any]:
    if isinstance(event, Planned):
        return {"planned": list(event.outputs), "sets": list(event.parameter_sets)}
    if isinstance(event, Begin):
        return {"begin": event.stage, "blanks": [m.to_json() for m in event.blanks]}
    if isinstance(event, Measured):
        return {"measurement": event.measurement.to_json(), "baseline": event.baseline}
    return {
        "faults": [asdict(f) for f in event.faults],
        "notes": list(event.notes),
        "not_examined": [asdict(g) for g in event.not_examined],
        "examination": None if event.examination is None else asdict(event.examination),
    }


def _serve(job: Mapping[str, Any], put: Any) -> None:
    from precision_lab.verifying.loading import load
    from precision_lab.verifying.trial import events

    try:
        plan: Plan = pickle.loads(base64.b64decode(job["plan"]))
        loaded = load(
            job["target"],
            plan,
            framework=job["framework"],
            compiled=job["compiled"],
            device=get_device(job["device"]),
        )
        if "narrow" in job:
            _narrow(job, plan, loaded.implementation, put)
        else:
            put(_encode(Examined(loaded.faults)))
            for event in events(
                plan, loaded,
                lambda stage, done, total: put({"stage": stage, "done": done, "total": total}),
                announce=lambda words: put({"doing": words}), isolated=True,
            ):  # fmt: skip
                put(_encode(event))
    except DeviceLostError as error:
        # A context cannot be had back: the process ends here, in the middle of its work, and another
        # one goes on with the next stage.
        print(error, file=sys.stderr, flush=True)
        os._exit(LOST)
    except EnvironmentAltersResultsError as error:
        put({"error": str(error), "kind": "environment"})
    except (UsageError, MissingPackageError) as error:
        put({"error": str(error), "kind": "use"})
    except KernelError as error:
        put({"error": str(error), "kind": f"kernel {error.kind}"})
    except Exception as error:  # the kernel's own are caught where it is called: this one is the lab's
        said = f"{type(error).__name__}: {first_line(error)}"
        put({"error": said, "kind": "lab", "trace": traceback.format_exc()})
    except BaseException as error:  # the lab raises none: a signal's handler or a thread of the kernel's did
        _end_astray(error)


def _end_astray(error: BaseException) -> NoReturn:
    """Ends the process with the words of an error that no call of the kernel's has raised."""
    while True:
        # A handler that raises may do so again in here: with its signal blocked, no more than once.
        with contextlib.suppress(BaseException):
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            said = f"{type(error).__name__}: {first_line(error)}, outside of a call"
            print(said, file=sys.stderr, flush=True)
            os._exit(STRAY)


def _narrow(job: Mapping[str, Any], plan: Plan, implementation: Any, put: Any) -> None:
    """Calls the kernel on `size` inputs at a time, saying beforehand on which."""
    import numpy as np

    from precision_lab.functions import Asked
    from precision_lab.inputs.points import default_inputs
    from precision_lab.inputs.sets import input_set
    from precision_lab.running.case import Case
    from precision_lab.running.runner import run

    name, params_name, output = job["narrow"]
    fmt = next(f for f in plan.fmts if f.name == name)
    case = Case(implementation, fmt, Asked(plan.parameter_sets[params_name]), (output,))
    spec = default_inputs(fmt) if fmt.bits > 16 else "exhaustive"
    bits = input_set(spec, fmt, plan.function, case.asked)[1]
    first, end = job["window"] or (0, bits.size)
    for start in range(first, end, job["size"]):
        part = bits[start : min(start + job["size"], end)]
        x = fmt.decode(part)
        shown = [f"{float(v)!r} ({float(v).hex()}, bits 0x{int(b):0{fmt.bits // 4}x})" for v, b in
                 zip(x[[0, -1]], part[[0, -1]], strict=True)]  # fmt: skip
        words = f"x={shown[0]}" if part.size == 1 else f"from {shown[0]} to {shown[1]}"
        put({"first": start, "end_before": start + int(part.size), "words": words})
        run(case, np.asarray(part))


def main() -> None:
    """The child, or the server that forks it; the last argument is its pipe or its socket."""
    if sys.argv[1] == SERVER:
        serve(int(sys.argv[2]), _work, WARM)
        os._exit(0)
    _work(int(sys.argv[1]))


def _work(pipe: int) -> None:
    """The child: a job on standard input, events to the pipe."""
    with os.fdopen(os.dup(0), "rb", closefd=False) as given:
        lifeline = given.fileno()
        job = json.loads(given.readline())
    tie_to_parent(lifeline)
    with open(os.devnull, "rb") as nothing:  # a kernel that reads finds an end, and not the lifeline
        os.dup2(nothing.fileno(), 0)
    # A terminal's Ctrl-C goes to the parent, which ends this process; what arrives here is the kernel's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    give_process_to_kernel()
    # Should memory run out, this process is the one to go.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    numbers = itertools.count()
    place = os.fstat(pipe)

    def put(line: Mapping[str, Any]) -> None:
        rest = (json.dumps({"key": job["key"], "n": next(numbers), **line}) + "\n").encode()
        try:
            if not os.path.samestat(os.fstat(pipe), place):
                os._exit(CLOSED)  # the number is another file's now: nothing of the lab's belongs there
            while rest:
                rest = rest[os.write(pipe, rest) :]
        except OSError:
            os._exit(CLOSED)

    _serve(job, put)
    cache = sys.modules.get("precision_lab.running.inductor_cache")
    if cache is not None:
        cache.leave()
    put({"end": True})  # the last thing: the parent kills what it has heard the end of
    # A library's threads or exit handlers may hang at the end; everything has been said.
    os._exit(0)


if __name__ == "__main__":
    main()
