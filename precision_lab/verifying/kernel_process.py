"""The process of a stranger's kernel: reads a job, runs it, and writes what comes of it to a pipe.

Also the server that has imported what every such process needs, and forks them (`system.warm_start`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from precision_lab.devices import get_device
from precision_lab.exceptions import (
    DeviceLostError,
    EnvironmentAltersResultsError,
    KernelError,
    MissingPackageError,
    UsageError,
    first_line,
    give_process_to_kernel,
)
from precision_lab.running.own_process import SERVER, make_device
from precision_lab.system.children import tie_to_parent
from precision_lab.system.warm_start import serve

if TYPE_CHECKING:  # torch: for the server to import when it has made its device
    from precision_lab.verifying.plan import Plan

# Exit codes of a process that cannot go on: its kernel destroyed the CUDA context, took its pipe away, or
# raised outside of a call.
LOST, CLOSED, STRAY = 86, 87, 88
# What the process of every kernel imports, so that it has been by the one that forks them.
WARM = (
    "precision_lab.measuring.measure", "precision_lab.verifying.properties.registry",
    "precision_lab.running.runner", "precision_lab.running.selfcheck", "precision_lab.verifying.loading",
    "precision_lab.verifying.trial",
    "torch.fx.experimental.symbolic_shapes",  # by autograd at its first call: sympy, a quarter of a second
)  # fmt: skip
# What compiles: narrow formats may be measured without.
COMPILING = ("precision_lab.scoring.scorer", "precision_lab.oracle.settle")
PRELOAD = "PRECISION_LAB_PRELOAD"  # modules that take long to import, with commas between them


def _serve(job: Mapping[str, Any], put: Any) -> None:
    try:
        make_device()  # before torch is imported
        from precision_lab.verifying.loading import load
        from precision_lab.verifying.plan import Examined
        from precision_lab.verifying.trial import events
        from precision_lab.verifying.wire import encode, unpacked

        plan = unpacked(job["plan"])
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
            put(encode(Examined(loaded.faults)))
            for event in events(
                plan, loaded,
                lambda stage, done, total: put({"stage": stage, "done": done, "total": total}),
                announce=lambda words: put({"doing": words}), isolated=True,
            ):  # fmt: skip
                put(encode(event))
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
        serve(int(sys.argv[2]), _work, WARM, make_device, PRELOAD, COMPILING)
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
