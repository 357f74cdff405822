"""Runs one case and scores it: kernel × format × output × parameters → Measurement."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab import inputs as input_sets
from precision_lab.cells import Cells, cells
from precision_lab.chunks import every_chunk, sweep_chunks
from precision_lab.exceptions import KernelError, first_line
from precision_lab.finish import finish
from precision_lab.formats import FloatFormat, get_format, kernel_format
from precision_lab.functions import get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.compiled import compiler_settings_kept
from precision_lab.implementations.placement import on_device
from precision_lab.implementations.runner import effective_parameters, input_tensor, run, run_tensors
from precision_lab.results import Failure, Measurement
from precision_lab.scoring import Scorer
from precision_lab.selfcheck import environment, require_ieee
from precision_lab.tallies import Tally


@dataclass(frozen=True)
class InputSet:
    """A named set of inputs, as bits in the order the kernel gets them, and the cells they lie in.

    Attributes:
        bits: None for every pattern of a format too wide to list.
        order: indices that put `bits` in ascending order; None where they are already.
    """

    name: str
    cells: Cells
    bits: NDArray[Any] | None
    order: NDArray[np.intp] | None
    size: int


def input_set(
    spec: str | NDArray[Any],
    fmt: FloatFormat,
    function: str,
    params: Mapping[str, float],
    *,
    finite: bool = False,
) -> InputSet:
    """The inputs of `spec`, cut into cells.

    Args:
        finite: without infinities and NaN.

    Raises:
        ValueError: an input set that the format does not have.
    """
    found = cells(fmt, function, params)
    if isinstance(spec, str) and spec == "exhaustive" and fmt.bits == 32:
        count = (1 << 32) - (1 << 24) if finite else 1 << 32
        return InputSet(f"{spec}, finite" if finite else spec, found, None, None, count)
    name, bits = input_sets.input_set(spec, fmt, function, params)
    if finite:
        name, bits = f"{name}, finite", bits[np.isfinite(fmt.decode(bits))]
    ascending = bool((np.diff(bits.astype(np.uint64)).astype(np.int64) > 0).all())
    return InputSet(name, found, bits, None if ascending else np.argsort(bits, kind="stable"), bits.size)


def default_inputs(fmt: FloatFormat) -> str:
    """Every input where that is at most 2^16 of them, stratified otherwise."""
    return "exhaustive" if fmt.bits <= 16 else "stratified"


def measure(
    kernel: Any,
    function: str,
    *,
    fmt: str = "bf16",
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    inputs: str | NDArray[Any] | None = None,
    device: str = "cpu",
    params_name: str = "",
) -> Measurement:
    """Error of one output of a kernel in one format, against the exact value.

    Args:
        kernel: `kernel(x, *, alpha_p, ...) -> y` on torch tensors, a `torch.nn.Module`, an
            `Implementation`, or the name of a registered one ("naive", "stable [upcast]").
        params: parameter values, rounded to the dtype the kernel receives them in; the
            reference uses the rounded ones.
        inputs: "exhaustive" (all 2^32 in fp32), "stratified", "stratified:N" or an array of float64
            values; by default exhaustive for 8- and 16-bit formats.
        device: where the kernel runs and is scored: "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: unknown function, format, output, implementation or parameter, or a device
            that is not there or that the kernel does not run on.
        KernelError: the kernel gave no such output (`measure_all` returns it as a finding).
        EnvironmentAltersResultsError: subnormals are flushed to zero.
        DeviceLostError: the kernel destroyed the process's CUDA context.
    """
    definition = get_function(function)
    definition.check_output(output)
    implementation = on_device(resolve(kernel, function, fmt), device)
    result = measure_all(implementation, (output,), fmt, params, params_name=params_name, inputs=inputs)[0]
    if result.failure is not None:
        raise KernelError(result.failure.kind, result.failure.message)
    return result


@compiler_settings_kept()
def measure_all(
    implementation: Implementation,
    outputs: Sequence[str],
    fmt: str | FloatFormat,
    params: Mapping[str, float] | None = None,
    *,
    params_name: str = "",
    inputs: str | NDArray[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finite: bool = False,
) -> list[Measurement]:
    """One `Measurement` per output; a kernel's fault is a measurement with `failure` set.

    Args:
        progress: called with the number of inputs done and of all, where that takes a while.
        finite: leave infinities and NaN out of the inputs.

    Raises:
        ValueError, EnvironmentAltersResultsError: as `measure`.
    """
    require_ieee()
    source = kernel_format(fmt)
    definition = get_function(implementation.function)
    for output in outputs:
        definition.check_output(output)
    asked = definition.check_params(params)
    spec = default_inputs(source) if inputs is None else inputs
    name = params_name or ("init" if asked == definition.check_params() else "given")

    def blank(output: str, params: dict[str, float], failure: Failure | None = None) -> Measurement:
        return blank_measurement(
            implementation, source.name, output, name, params, chosen.name, chosen.size, failure, asked
        )

    try:
        effective = effective_parameters(implementation, asked, source.name)
    except KernelError as error:
        chosen = input_set(spec, source, definition.name, asked, finite=finite)
        return [blank(output, asked, Failure(error.kind, str(error))) for output in outputs]
    chosen = input_set(spec, source, definition.name, effective, finite=finite)
    if chosen.bits is None:
        chunks: Sequence[int] = every_chunk(source)
        if finite:  # in fp32 an exponent of all ones fills whole chunks
            half = len(chunks) // 2
            last = half - half // 256
            chunks = [*range(last), *range(half, half + last)]
        found: dict[str, Tally | Failure] = sweep_chunks(
            implementation, outputs, chosen.cells, effective, asked, chunks, progress=progress
        )
    else:
        found = _score_listed(implementation, outputs, chosen, effective, asked)
    # A kernel's library may have switched flushing on: then nothing counts. Only compiled kernels use
    # torch's worker threads; looking at them waits for both cores.
    require_ieee(workers=implementation.execution == "compiled")
    return [
        blank(output, effective, result)
        if isinstance(result, Failure)
        else finish(blank(output, effective), chosen.cells, result)
        for output, result in found.items()
    ]


def _score_listed(
    implementation: Implementation,
    outputs: Sequence[str],
    inputs: InputSet,
    effective: Mapping[str, float],
    asked: Mapping[str, float],
) -> dict[str, Tally | Failure]:
    """One run of the kernel over inputs that fit in memory."""
    assert inputs.bits is not None
    fmt, bits = inputs.cells.fmt, inputs.bits
    if implementation.on_cuda and fmt.bits <= 32:
        return _score_on_device(implementation, outputs, inputs, effective, asked)
    computed = run(implementation, bits, fmt.name, asked, outputs)
    return _scored(implementation, inputs, effective, computed, Scorer, lambda array: array)


def _score_on_device(
    implementation: Implementation,
    outputs: Sequence[str],
    inputs: InputSet,
    effective: Mapping[str, float],
    asked: Mapping[str, float],
) -> dict[str, Tally | Failure]:
    """`_score_listed` for a kernel on a GPU, whose results are scored there."""
    import torch

    from precision_lab.device_scoring import DeviceScorer

    assert inputs.bits is not None
    fmt, bits = inputs.cells.fmt, inputs.bits
    try:
        point = input_tensor(implementation, bits, fmt)
        computed = {
            output: values if isinstance(values, Failure) else values.float().contiguous()
            for output, values in run_tensors(implementation, point, fmt, asked, outputs).items()
        }
        return _scored(
            implementation, inputs, effective, computed, partial(DeviceScorer, device=point.device),
            lambda array: torch.from_numpy(array).to(point.device),
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        failure = Failure("out_of_memory", f"{bits.size} inputs at once: {first_line(error)}")
        return dict.fromkeys(outputs, failure)


def _scored(
    implementation: Implementation,
    inputs: InputSet,
    effective: Mapping[str, float],
    computed: Mapping[str, Any],
    scorer_of: Callable[..., Scorer],
    place: Callable[[NDArray[Any]], Any],
) -> dict[str, Tally | Failure]:
    """Tallies of results, arrays or tensors; failures as they are.

    Args:
        scorer_of: makes the scorer for where the results are.
        place: brings an array there.
    """
    assert inputs.bits is not None
    fmt, bits = inputs.cells.fmt, inputs.bits
    good = {output: values for output, values in computed.items() if not isinstance(values, Failure)}
    found: dict[str, Tally | Failure] = {o: v for o, v in computed.items() if isinstance(v, Failure)}
    if good:
        formats = [get_format(implementation.output_format(fmt.name, output)) for output in good]
        scorer = scorer_of(
            inputs.cells, implementation.function, tuple(good), effective, formats,
            saturating=implementation.saturating,
        )  # fmt: skip
        ys = list(good.values())
        if inputs.order is not None:
            order = place(inputs.order)
            bits, ys = bits[inputs.order], [y[order] for y in ys]
        patterns = bits.astype(np.uint64)
        x = place(fmt.decode(bits).astype(np.float64 if fmt.bits == 64 else np.float32))
        scorer.score(x, ys, inputs.cells.runs(patterns), patterns.view(np.int64))
        found |= dict(zip(good, scorer.finish(), strict=True))
    return {output: found[output] for output in computed}


def blank_measurement(
    implementation: Implementation,
    fmt: str,
    output: str,
    params_name: str,
    params: dict[str, float],
    inputs: str,
    n_inputs: int,
    failure: Failure | None = None,
    asked: Mapping[str, float] | None = None,
) -> Measurement:
    """A measurement with nothing counted yet, or with the reason why nothing can be.

    Args:
        params: what the kernel received; asked: what it was asked to take, where that may differ.
    """
    if not implementation.target or asked == params:
        asked = None
    return Measurement(
        function=implementation.function,
        implementation=implementation.name,
        execution=implementation.execution_name,
        fmt=fmt,
        output_fmt=implementation.output_format(fmt, output),
        output=output,
        params_name=params_name,
        params=params,
        inputs=inputs,
        n_inputs=n_inputs,
        failure=failure,
        environment=environment(),
        target=implementation.target,
        device=implementation.device,
        asked=dict(asked or {}),
        options=" ".join(implementation.options()),
    )


class _CallableModule(types.ModuleType):
    """Lets `precision_lab.measure` be both this module and the function of that name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Measurement:
        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
