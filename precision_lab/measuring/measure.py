"""Runs one case and scores it: kernel × format × outputs × parameters → measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from precision_lab.devices import CPU, Device, get_device
from precision_lab.exceptions import KernelError, door, first_line
from precision_lab.formats import FloatFormat, kernel_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.adapters.target import find, handed_over
from precision_lab.implementations.base import Implementation
from precision_lab.inputs.points import Inputs
from precision_lab.measuring.conforming import conformities, unexamined
from precision_lab.measuring.every_input import every_chunk, standards, sweep_chunks
from precision_lab.results import Failure, Measurement
from precision_lab.results.conformity import Conformity
from precision_lab.running.case import Case, case_of
from precision_lab.running.clock import Clock, is_plain
from precision_lab.running.own_process import on
from precision_lab.running.placement import on_device
from precision_lab.running.runner import input_tensor, run, run_tensors
from precision_lab.running.selfcheck import require_ieee
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.scoring.choosing import Scores, scorer_for
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.standard import Standard
from precision_lab.scoring.statistics import finish
from precision_lab.scoring.tally import Tally
from precision_lab.system.progress import Progress


@door
def measure(
    kernel: Any,
    function: str | Activation,
    *,
    fmt: str | FloatFormat = "bf16",
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    inputs: Inputs | None = None,
    device: str | Device = CPU,
    params_name: str = "",
) -> Measurement:
    """Error of one output of a kernel in one format, against the exact value.

    >>> import torch
    >>> m = measure(torch.nn.functional.silu, "silu", fmt="bf16")
    >>> m.n_inputs, round(m.max_ulp, 1), m.nonfinite_mismatch
    (65536, 244.9, 1)
    >>> m.witness.x, m.witness.computed, m.witness.exact
    (-90.5, -0.0, '-4.497777493682965491727403e-38')
    >>> round(m.regions["positive"].max_ulp, 3)
    0.5

    Args:
        kernel: `kernel(x, *, alpha_p, ...) -> y` on torch tensors, a `torch.nn.Module`, an
            `Implementation`, or the name of a registered one ("naive", "stable [upcast]").
        function, fmt: objects, or the names of registered ones.
        params: parameter values, rounded to the dtype the kernel receives them in; the
            reference uses the rounded ones.
        inputs: "exhaustive" (all 2^32 in fp32), "stratified", "stratified:N" or an array of float64
            values; by default exhaustive for 8- and 16-bit formats.
        device: where the kernel runs and is scored: "cpu", "cuda", "cuda:N", or an emulated GPU such as
            "sm_90", where the kernel is a registered name, a TARGET, or what another process finds by name.

    Raises:
        ValueError: unknown function, format, output, implementation or parameter, or a device
            that is not there or that the kernel does not run on.
        KernelError: the kernel gave no such output (`measure_all` returns it as a finding).
        EnvironmentAltersResultsError: subnormals are flushed to zero.
        DeviceLostError: the kernel destroyed the process's CUDA context.
    """
    definition, source, place = get_function(function), kernel_format(fmt), get_device(device)
    definition.check_output(output)
    if place.own_process:
        kernel = handed_over(kernel, place.name)
    asked = _Asked(definition, source, output, params, inputs, params_name)
    result = on(place, _measured, kernel, asked, place)
    if result.failure is not None:
        raise KernelError(result.failure.kind, result.failure.message)
    return result


class _Asked(NamedTuple):
    """What `measure` was asked for, beside the kernel."""

    function: Activation
    fmt: FloatFormat
    output: str
    params: Mapping[str, float] | None
    inputs: Inputs | None
    params_name: str


def _measured(kernel: Any, asked: _Asked, device: Device) -> Measurement:
    if isinstance(kernel, str):
        kernel = find(kernel, asked.function, (asked.fmt,))
    implementation = on_device(resolve(kernel, asked.function, asked.fmt), device)
    case = case_of(
        implementation, asked.fmt, asked.params, (asked.output,), inputs=asked.inputs,
        params_name=asked.params_name,
    )  # fmt: skip
    return measure_all(case)[0]


@compiler_settings_kept()
def measure_all(case: Case, *, progress: Progress | None = None) -> list[Measurement]:
    """One `Measurement` per output; a kernel's fault is a measurement with `failure` set.

    Args:
        progress: called with the number of inputs done and of all, where that takes a while.

    Raises:
        ValueError, EnvironmentAltersResultsError: as `measure`.
    """
    require_ieee()
    try:
        points = case.points
    except KernelError as error:
        return case.without_parameters(error)
    clock = Clock(case.implementation)
    conforming: Mapping[str, Conformity]
    if points.bits is None:
        chunks: Sequence[int] = every_chunk(case.fmt)
        if case.finite:  # in fp32 an exponent of all ones fills whole chunks
            half = len(chunks) // 2
            last = half - half // 256
            chunks = [*range(last), *range(half, half + last)]
        found: dict[str, Tally | Failure] = sweep_chunks(case, chunks, progress=progress, clock=clock)
        conforming = unexamined(case) if case.implementation.device.chooses else {}
    else:
        found, conforming = _score_listed(case, clock, progress)
    # A kernel's library may have switched flushing on: then nothing counts. Only compiled kernels use
    # torch's worker threads; looking at them waits for both cores.
    require_ieee(workers=case.implementation.execution.compiled)
    return [
        case.blank(output, result)
        if isinstance(result, Failure)
        else replace(
            finish(case.blank(output), standard, result),
            time_ns_per_element=clock.per_element(output),
            conformity=conforming.get(output),
        )
        for (output, result), standard in zip(found.items(), standards(case, tuple(found)), strict=True)
    ]


def _score_listed(
    case: Case, clock: Clock, progress: Progress | None
) -> tuple[dict[str, Tally | Failure], Mapping[str, Conformity]]:
    """One run of the kernel over inputs that fit in memory; then, where results can be chosen, all others."""
    bits = case.points.bits
    assert bits is not None
    if case.is_scored_there:
        return _score_on_device(case, bits, clock), {}
    if is_plain(case.implementation):
        _begun(case.implementation, case.fmt, case.outputs)
    computed = run(case, bits, clock)
    scored = _scored(case, computed, scorer_for, lambda array: array)
    if not case.implementation.device.chooses:
        return scored, {}
    return scored, conformities(case, computed, progress)


@lru_cache(maxsize=4096)
def _begun(implementation: Implementation, fmt: FloatFormat, outputs: tuple[str, ...]) -> None:
    """Calls a plain kernel once, so that torch has loaded what it needs and the next call can be timed."""
    run(case_of(implementation, fmt, outputs=outputs), np.ones(16))


def _score_on_device(case: Case, bits: NDArray[Any], clock: Clock) -> dict[str, Tally | Failure]:
    """`_score_listed` for a kernel on a GPU, whose results are scored there."""
    import torch

    from precision_lab.scoring.cuda_scorer import DeviceScorer

    try:
        point = input_tensor(case, bits)
        computed = {
            output: values if isinstance(values, Failure) else values.float().contiguous()
            for output, values in run_tensors(case, point, clock).items()
        }
        return _scored(
            case, computed, partial(DeviceScorer, device=point.device),
            lambda array: torch.from_numpy(array).to(point.device),
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        failure = Failure("out_of_memory", f"{bits.size} inputs at once: {first_line(error)}")
        return dict.fromkeys(case.outputs, failure)


def _scored(
    case: Case,
    computed: Mapping[str, Any],
    scorer_of: Callable[[tuple[Standard, ...]], Scores],
    place: Callable[[NDArray[Any]], Any],
) -> dict[str, Tally | Failure]:
    """Tallies of results, arrays or tensors; failures as they are.

    Args:
        scorer_of: makes the scorer for where the results are.
        place: brings an array there.
    """
    points, fmt, bits = case.points, case.fmt, case.points.bits
    assert bits is not None
    good = {output: values for output, values in computed.items() if not isinstance(values, Failure)}
    found: dict[str, Tally | Failure] = {o: v for o, v in computed.items() if isinstance(v, Failure)}
    if good:
        scorer = scorer_of(standards(case, tuple(good)))
        ys = list(good.values())
        if points.order is not None:
            order = place(points.order)
            bits, ys = bits[points.order], [y[order] for y in ys]
        patterns = bits.astype(np.uint64)
        x = place(fmt.decode(bits).astype(np.float64 if fmt.bits == 64 else np.float32))
        scorer.score(x, ys, points.cells.runs(patterns), Patterns.of(patterns))
        found |= dict(zip(good, scorer.finish(), strict=True))
    return {output: found[output] for output in computed}
