"""`precision_lab.verify` and `assert_accurate`: the doors to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from precision_lab.devices import CPU, Device, usable_device
from precision_lab.exceptions import UsageError, door
from precision_lab.formats import FORMATS, FloatFormat, get_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import implementations_for
from precision_lab.implementations.adapters.target import handed_over, is_registered_name
from precision_lab.implementations.inductor import Compiled
from precision_lab.implementations.switches import random_state_kept
from precision_lab.results.execution import EAGER
from precision_lab.results.profile import DEFAULT
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.system.progress import Progress
from precision_lab.verifying.collect import collect
from precision_lab.verifying.in_process import surviving
from precision_lab.verifying.isolation import isolated_events
from precision_lab.verifying.loading import load
from precision_lab.verifying.make_plan import Request, make_plan
from precision_lab.verifying.plan import Examined
from precision_lab.verifying.summary import explanation
from precision_lab.verifying.trial import events
from precision_lab.verifying.verdict import Verdict


@door
def verify(
    kernel: Any,
    function: str | Activation,
    *,
    fmts: Sequence[str | FloatFormat] = ("bf16", "fp32"),
    outputs: Sequence[str] | None = None,
    max_ulp: float | None = None,
    bound: str | Path | None = None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    inputs: str | None = None,
    properties: Sequence[str] | bool = True,
    against: str | None = None,
    framework: str | None = None,
    compiled: Compiled = False,
    isolate: bool | None = None,
    time_limit: float = 120.0,
    progress: Progress | None = None,
    promise: bool = True,
    laws: bool = False,
    device: str | Device = CPU,
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Verdict:
    """Measures a kernel in several formats, examines what kernels break beside accuracy, and judges both.

    >>> import torch
    >>> def relu2(x):
    ...     return torch.relu(x) ** 2
    >>> verdict = verify(relu2, "relu2", fmts=("bf16",), properties=False)
    >>> verdict.outcome, [f"{m.output} {m.max_ulp:.2f}" for m in verdict.measurements]
    ('pass', ['forward 0.50', 'grad_x 0.00'])

    Args:
        kernel: as `measure`, a module's class or factory, a numpy, JAX or MLX callable, or a TARGET
            such as "my_kernels.py:xielu" or "libkernels.so:xielu".
        outputs: by default all that the kernel can give.
        max_ulp: 1 if neither it nor `bound` nor `against` is given.
        bound: a bound file instead.
        params: values, or several named sets of values. By default every named set of the function and
            two random ones; of a kernel that is not given a parameter, only the sets that differ for it.
            With a bound file, or where nothing is promised, the initial ones alone.
        inputs: as `measure`; by default exhaustive for 8- and 16-bit formats.
        properties: engineering properties by name (`ENGINEERING_PROPERTIES`). True for all but
            "compilation", which compiles the kernel to compare; with `compiled`, for that too.
        against: a registered implementation that the kernel must not be worse than, in any region.
        framework: "torch", "numpy", "jax" or "mlx" where it is not recognised.
        compiled: run a torch kernel through torch.compile; a mapping is of Inductor's settings, such as
            {"emulate_precision_casts": True}.
        isolate: run it in a process of its own. Only for a TARGET, and by default for every one; on a
            GPU also for a registered name.
        time_limit: seconds without an answer after which an isolated kernel counts as hung.
        progress: called with inputs done and inputs in all where that takes long.
        promise: False to hold accuracy to nothing; engineering properties are then held to what
            was measured.
        laws: also let Hypothesis choose parameters and check `search.LAWS` for them.
        device: where the kernel runs: "cpu", "cuda", "cuda:N", or an emulated GPU such as "sm_90", which has
            a process of its own in every case. A kernel that destroys its CUDA
            context is a crash. Where it is isolated, a new process goes on; elsewhere what was measured
            is kept, and the rest is named as not measured.
        multiple_of: the kernel takes only multiples of so many elements in the last dimension.
        shapes: it takes only these shapes, None for any size: ((None, 4096),).
        finite: leave infinite and NaN inputs and upstream gradients out.
        budget: seconds for large calls in each format, by default about one; if given, what does not fit
            makes the verdict inconclusive.

    Raises:
        ValueError: wrong use, of whatever kind; the message names the argument.
        MissingPackageError: laws are asked for, and Hypothesis is not installed.
        EnvironmentAltersResultsError: subnormals are flushed before the kernel has run.
    """
    __tracebackhide__ = True
    if promise and max_ulp is None and bound is None and against is None:
        max_ulp = 1.0
    request = Request(
        function=function, fmts=fmts, outputs=outputs, max_ulp=max_ulp, bound=bound, params=params,
        inputs=inputs, properties=properties, against=against, compiled=compiled, laws=laws,
        multiple_of=multiple_of, shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    return _verdict(kernel, request, _Running(framework, isolate, time_limit, progress, device))


@dataclass(frozen=True)
class _Running:
    """How a kernel is run; `verify` has the words for each."""

    framework: str | None = None
    isolate: bool | None = None
    time_limit: float = 120.0
    progress: Progress | None = None
    device: str | Device = CPU


def _verdict(kernel: Any, request: Request, how: _Running) -> Verdict:
    """The verdict on a kernel, which runs here or in a process of its own."""
    __tracebackhide__ = True
    place = usable_device(how.device)
    if request.against == "eager":
        request = replace(request, against=eager_baseline(get_function(request.function)))
    plan = make_plan(request)
    if place.own_process:
        kernel = handed_over(kernel, place.name)
    stranger = isinstance(kernel, str) and (place != CPU or not is_registered_name(kernel))
    if how.isolate and not stranger:
        raise UsageError(
            f"isolate=True needs a TARGET such as 'my_kernels.py:xielu' that another process can load; "
            f"got kernel={kernel!r}"
        )
    if stranger and (how.isolate is not False or place.own_process):
        stream = isolated_events(
            plan, kernel, framework=how.framework, compiled=request.compiled, time_limit=how.time_limit,
            progress=how.progress, device=place,
        )  # fmt: skip
        return collect(plan, stream)
    with compiler_settings_kept(), random_state_kept():
        loaded = load(kernel, plan, framework=how.framework, compiled=request.compiled, device=place)
        stream = surviving(plan, loaded.implementation, events(plan, loaded, how.progress))
        return collect(plan, chain([Examined(loaded.faults)], stream))


def eager_baseline(function: Activation) -> str:
    """Name of the registered eager formulation that a kernel of this function is usually held to.

    What kernel authors compare with today: the formulation as published (`results/profile.toml`), or as torch
    has it.

    Raises:
        ValueError: none is registered.
    """
    names = [i.name for i in implementations_for(function, EAGER)]
    if not names:
        raise UsageError(f"--against eager: no eager implementation of {function.name} is registered")
    wanted = DEFAULT.eager.get(function.name, "torch")
    return wanted if wanted in names else names[0]


def assert_accurate(
    kernel: Any,
    function: str | Activation,
    *,
    dtype: Any,
    max_ulp: float | None = None,
    outputs: Sequence[str] | None = None,
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    bound: str | Path | None = None,
    inputs: str | None = None,
    properties: Sequence[str] | bool = True,
    against: str | None = None,
    device: str | Device = CPU,
    multiple_of: int = 1,
    shapes: Sequence[Sequence[int | None]] = (),
    finite: bool = False,
    budget: float | None = None,
) -> Verdict:
    """Raises AssertionError, naming the worst inputs, unless `verify` passes the kernel.

    What was left out by an argument is printed.

    >>> import torch
    >>> def silu(x):
    ...     return x / (1 + torch.exp(-x))
    >>> assert_accurate(silu, "silu", dtype="fp16", outputs=["forward"], properties=False)
    Traceback (most recent call last):
        ...
    AssertionError: silu  silu  fp16  exhaustive (65536)  init: fail: 3 faults (1 major, 2 minor)...

    Args:
        dtype: a torch dtype, a format or the name of one.
        The others: as `verify`, with the same defaults.

    Returns:
        The verdict, which passed.
    """
    __tracebackhide__ = True
    name = str(dtype).removeprefix("torch.")
    known = (f for f in FORMATS.values() if name in (f.name, f.torch_name))
    fmt = dtype if isinstance(dtype, FloatFormat) else get_format(next(known, name))
    verdict = verify(
        kernel, function, fmts=(fmt,), outputs=outputs, max_ulp=max_ulp, params=params, bound=bound,
        inputs=inputs, properties=properties, against=against, isolate=False, device=device,
        multiple_of=multiple_of, shapes=shapes, finite=finite, budget=budget,
    )  # fmt: skip
    if verdict.left_out:
        left_out = "; ".join(verdict.left_out)
        print(f"precision_lab: {get_function(function).name} {fmt.name}: left out: {left_out}")
    if not verdict.passed:
        raise AssertionError(explanation(verdict))
    return verdict
