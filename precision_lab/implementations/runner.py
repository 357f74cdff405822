"""Runs an implementation on float64 arrays of format values; every fault becomes a named `Failure`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError, UsageError, first_line, kernel_error, raise_if_users
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import get_function
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.compiled import compiled_kernel
from precision_lab.implementations.placement import context_is_lost, raise_if_lost, require_capability
from precision_lab.implementations.switches import switches_kept
from precision_lab.results import Failure
from precision_lab.selfcheck import require_ieee

Float64 = NDArray[np.float64]

# By the width in which codes are stored: what torch makes of them is viewed as a dtype of its own.
_SIGNED = {8: np.uint8, 16: np.int16, 32: np.int32, 64: np.int64}
_INTEGERS = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}
_CORE = {"fp8-fp32": "fp32", "fp8-bf16": "bf16"}


def synchronize(implementation: Implementation) -> None:
    """Waits for the device, so that an error is met where it was made."""
    if implementation.on_cuda:
        torch.cuda.synchronize(implementation.device)


def torch_dtype(fmt: FloatFormat) -> torch.dtype:
    """torch's dtype of the format.

    Raises:
        ValueError: there is none.
    """
    if fmt.torch_name is None:
        raise UsageError(f"format {fmt.name!r}: torch has no dtype of it")
    dtype: torch.dtype = getattr(torch, fmt.torch_name)
    return dtype


def to_tensor(values: Float64, fmt: FloatFormat) -> Tensor:
    """A tensor of the format with exactly these values; NaN as the canonical one, −0 kept."""
    dtype = torch_dtype(fmt)
    bits = fmt.encode(np.asarray(values, np.float64)).view(_SIGNED[fmt.storage_bits])
    return torch.from_numpy(bits.copy()).view(dtype)


def to_array(tensor: Tensor, fmt: FloatFormat) -> Float64:
    """Exact float64 values of a tensor of the format."""
    integer = _INTEGERS[fmt.storage_bits]
    bits = tensor.detach().contiguous().cpu().view(integer).numpy().view(fmt.bits_dtype)
    return fmt.decode(bits)


def from_bits(bits: NDArray[Any], fmt: FloatFormat) -> Tensor:
    """A tensor of the format with these bit patterns, in memory of its own."""
    dtype = torch_dtype(fmt)
    return torch.from_numpy(bits.astype(fmt.bits_dtype).view(_SIGNED[fmt.storage_bits]).copy()).view(dtype)


@lru_cache(maxsize=8)
def _decoded(fmt: FloatFormat) -> NDArray[np.float32]:
    """Every number of a format of up to 16 bits, by pattern; float32 holds them all."""
    return fmt.decode(fmt.all_bits()).astype(np.float32)


def to_numpy(tensor: Tensor, fmt: FloatFormat) -> NDArray[Any]:
    """Exact values of a tensor of the format: float64 for fp64, float32 for all others."""
    tensor = tensor.detach().contiguous().cpu()
    if fmt.bits >= 32:
        return tensor.numpy()
    bits = tensor.view(_INTEGERS[fmt.storage_bits]).numpy().view(fmt.bits_dtype)
    values: NDArray[Any] = _decoded(fmt)[bits]
    return values


def store(tensor: Tensor, fmt: FloatFormat, *, saturating: bool) -> Tensor:
    """Cast to an FP8 format with its overflow behaviour spelt out.

    Releases of torch differ in what a cast of an overflowing number gives, so that is
    decided here: the largest finite number, or infinity, or NaN where there is none.
    """
    wide = tensor.float()
    clamped = wide.clamp(-fmt.max_finite, fmt.max_finite)
    stored = clamped.to(torch_dtype(fmt))
    if saturating:
        return stored
    threshold = fmt.overflow_threshold
    # A tie at the threshold rounds to even: up where the largest significand is odd.
    over = wide.abs() >= threshold if fmt.max_significand % 2 else wide.abs() > threshold
    beyond = torch.copysign(torch.full_like(wide, torch.inf if fmt.has_infinity else torch.nan), wide)
    return torch.where(over, beyond.to(torch_dtype(fmt)), stored)


def core_format(implementation: Implementation, fmt: str) -> str:
    """Format of the tensors the kernel itself receives."""
    return _CORE.get(implementation.execution, fmt)


def effective_parameters(
    implementation: Implementation, params: Mapping[str, float], fmt: str
) -> dict[str, float]:
    """The parameter values the kernel really uses: as rounded to the dtype it receives them in.

    One that is fixed in the kernel is a number of its source, and FP32 arithmetic sees it in FP32.

    Raises:
        ValueError: a value that the definition allows becomes one that it does not, such as 0.
        KernelError: the adapter's library is missing, or its code raised.
    """
    effective = implementation.effective
    values: dict[str, float] = {}
    if effective is not None:
        values = _guarded(lambda: effective(params, fmt))
        where = dict.fromkeys(values, f"in {implementation.label} for {fmt}")
    else:
        core = get_format(core_format(implementation, fmt))
        constant = core if core.bits > 32 else get_format("fp32")
        where = {}
        for name, value in params.items():
            format_ = core if _given(implementation, name) else constant
            values[name] = float(format_.round(np.array([value]))[0])
            where[name] = f"in {format_.name}"
    definition = get_function(implementation.function)
    for name, value in values.items():
        definition.check_received(name, params.get(name, value), value, where[name])
    return values


def _given(implementation: Implementation, name: str) -> bool:
    return implementation.parameters is None or name in implementation.parameters


def leaf_tensors(implementation: Implementation, params: Mapping[str, float], fmt: str) -> dict[str, Tensor]:
    """Parameter tensors by name, 0-d or as the adapter has them, none requiring a gradient yet.

    Raises:
        KernelError: as `effective_parameters`.
    """
    make = implementation.leaves
    if make is not None:
        tensors: dict[str, Tensor] = _guarded(lambda: make(params, fmt))
        return {name: tensor.to(implementation.device) for name, tensor in tensors.items()}
    core = get_format(core_format(implementation, fmt))
    return {
        name: to_tensor(core.round(np.array([value])), core)[0].to(implementation.device)
        for name, value in params.items()
        if _given(implementation, name)
    }


def call(implementation: Implementation, x: Tensor, leaves: Mapping[str, Tensor]) -> Tensor:
    """The kernel's result for tensors of the core format, in the implementation's execution."""
    kernel = implementation.kernel
    if implementation.execution == "compiled":
        kernel = compiled_kernel(implementation)
    with switches_kept():
        if implementation.execution == "upcast":
            y: Tensor = kernel(x.float(), **{n: leaf.float() for n, leaf in leaves.items()}).to(x.dtype)
            return y
        return kernel(x, **leaves)  # type: ignore[no-any-return]


def run(
    implementation: Implementation,
    x: NDArray[Any],
    fmt: str,
    params: Mapping[str, float],
    outputs: Sequence[str],
) -> dict[str, NDArray[Any] | Failure]:
    """Per-element outputs as `to_numpy` gives them; a failed output is a `Failure` and the others go on.

    Args:
        x: values of the format as float64, or its bit patterns as unsigned integers, shape (n,).
        params: asked parameter values; the kernel gets them rounded.
        outputs: any of the implementation's `measured_outputs()`.
    """
    source = get_format(fmt)
    point = input_tensor(implementation, x, source)
    found = run_tensors(implementation, point, source, params, outputs)
    return {
        output: value
        if isinstance(value, Failure)
        else to_numpy(value, get_format(implementation.output_format(fmt, output)))
        for output, value in found.items()
    }


def input_tensor(implementation: Implementation, x: NDArray[Any], fmt: FloatFormat) -> Tensor:
    """What the kernel gets for values or bit patterns of a format, on its device."""
    core = get_format(core_format(implementation, fmt.name))
    if x.dtype.kind == "f" or core is not fmt:
        # FP8 values are exact in the core's format, so the core sees the stored numbers.
        point = to_tensor(x if x.dtype.kind == "f" else fmt.decode(x), core)
    else:
        point = from_bits(x, fmt)
    return point.to(implementation.device)


def patterns_on_device(fmt: FloatFormat, first: int, count: int, device: torch.device) -> Tensor:
    """A tensor of the format with `count` patterns from `first` on, made on the device."""
    integer = _INTEGERS[fmt.storage_bits]
    # Narrowing an integer keeps its low bits.
    return torch.arange(first, first + count, device=device).to(integer).view(torch_dtype(fmt))


def core_tensor(implementation: Implementation, values: Tensor, fmt: FloatFormat) -> Tensor:
    """Numbers of the format as the kernel gets them: FP8 values are exact in the core's format."""
    core = core_format(implementation, fmt.name)
    return values if core == fmt.name else values.float().to(torch_dtype(get_format(core)))


def run_tensors(
    implementation: Implementation,
    point: Tensor,
    fmt: FloatFormat,
    params: Mapping[str, float],
    outputs: Sequence[str],
) -> dict[str, Tensor | Failure]:
    """`run` for the tensor of `input_tensor`; results stay where they are, in their output formats.

    Raises:
        torch.OutOfMemoryError: the device's memory is too small for so many inputs.
        DeviceLostError: the kernel destroyed the CUDA context.
    """
    try:
        require_capability(implementation)
        with one_thread(implementation):
            found = _laid_out(implementation, point, fmt, params, outputs)
            synchronize(implementation)
            return found
    except KernelError as error:
        return dict.fromkeys(outputs, Failure(error.kind, str(error)))
    except RuntimeError as error:
        raise_if_lost(implementation, error)
        raise


def attempt(
    implementation: Implementation, shape: tuple[int, ...], fmt: str, params: Mapping[str, float]
) -> KernelError | None:
    """What a kernel raises for ones in a shape, forward and d/dx; None where it accepts them."""
    core = get_format(core_format(implementation, fmt))
    x = torch.ones(shape, device=implementation.device).to(torch_dtype(core))
    outputs = [o for o in ("forward", "grad_x") if o in implementation.measured_outputs()]
    try:
        with one_thread(implementation):
            found = _run(implementation, x, get_format(fmt), params, outputs)
    except KernelError as error:
        return error
    failures = [value for value in found.values() if isinstance(value, Failure)]
    return KernelError(failures[0].kind, failures[0].message) if failures else None


def _laid_out(
    implementation: Implementation,
    point: Tensor,
    fmt: FloatFormat,
    params: Mapping[str, float],
    outputs: Sequence[str],
) -> dict[str, Tensor | Failure]:
    """`_run` in calls of shapes that the kernel's contract accepts, which may be larger or smaller.

    What is left over of a call repeats inputs, whose results are dropped.
    """
    shape = implementation.contract.shape_for(max(point.numel(), 1))
    if shape is None or shape == tuple(point.shape) or not point.numel():
        return _run(implementation, point, fmt, params, outputs)
    n, size = point.numel(), math.prod(shape)
    parts: dict[str, list[Tensor]] = {output: [] for output in outputs}
    failures: dict[str, Failure] = {}
    for start in range(0, n, size):
        index = (start + torch.arange(size, device=point.device)) % n
        found = _run(implementation, point[index].reshape(shape), fmt, params, outputs)
        for output, value in found.items():
            if isinstance(value, Failure):
                failures.setdefault(output, value)
            else:
                parts[output].append(value.reshape(-1))
    return {
        output: failures[output] if output in failures else torch.cat(parts[output])[:n] for output in outputs
    }


@contextmanager
def one_thread(implementation: Implementation) -> Iterator[None]:
    """Run eagerly in one thread: 2^16 elements are two threads' smallest share, and on a busy machine
    waiting for the second takes a hundred times the work. Compiled code has its threads built in.
    """
    threads = torch.get_num_threads()
    if implementation.execution != "compiled":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(
    implementation: Implementation,
    point: Tensor,
    fmt: FloatFormat,
    params: Mapping[str, float],
    outputs: Sequence[str],
) -> dict[str, Tensor | Failure]:
    core = get_format(core_format(implementation, fmt.name))
    leaves = leaf_tensors(implementation, params, fmt.name)
    wanted = {output.removeprefix("grad_") for output in outputs if output.startswith("grad_")}
    # One graph per kernel and dtype: a compiled kernel always gets x-shaped parameters.
    everywhere = implementation.execution == "compiled"
    expanded = {
        name: leaf.expand(point.shape).clone() if everywhere or name in wanted else leaf
        for name, leaf in leaves.items()
    }
    if wanted or everywhere:
        point.requires_grad_()
        for name in wanted & set(expanded):
            expanded[name].requires_grad_()
        if everywhere:
            for leaf in expanded.values():
                leaf.requires_grad_()
    y = _guarded(lambda: call(implementation, point, expanded))
    stored = core if implementation.storage is None else get_format(implementation.storage)
    _check(y, point, stored, "forward")
    require_ieee()  # before anything else is computed, or kept, in a thread that the kernel may have changed
    # The forward's result is what was there before a backward could write into it.
    forward = y.detach().clone() if wanted and "forward" in outputs else y.detach()
    result: dict[str, Tensor | Failure] = {}
    gradients = _gradients(y, {"x": point, **expanded}, wanted, torch.ones_like(y), implementation)
    require_ieee()
    for output in outputs:
        target = get_format(implementation.output_format(fmt.name, output))
        try:
            value = forward if output == "forward" else gradients[output.removeprefix("grad_")]
            if isinstance(value, KernelError):
                raise value
            _check(value, point, stored, output)
            if core is not fmt:
                value = store(value, target, saturating=implementation.saturating)
            result[output] = value.detach()
        except KernelError as error:
            result[output] = Failure(error.kind, str(error))
    return result


def _guarded(work: Callable[[], Any]) -> Any:
    """The kernel's result, or its exception as a `KernelError`: its author's code may raise anything."""
    try:
        return work()
    except KernelError:
        raise
    except ImportError as error:
        raise KernelError("missing_dependency", str(error)) from error
    except torch.OutOfMemoryError:
        raise
    except BaseException as error:
        raise_if_users(error)
        if context_is_lost(error):
            raise
        raise kernel_error(error) from error


def _gradients(
    y: Tensor,
    sources: Mapping[str, Tensor],
    wanted: set[str],
    upstream: Tensor,
    implementation: Implementation,
) -> dict[str, Tensor | KernelError]:
    """Gradient of Σ upstream·y for each wanted source, or why there is none."""
    if not wanted:
        return {}
    missing = {
        name: KernelError("raised", f"{implementation.label} has no leaf {name!r}")
        for name in wanted - set(sources)
    }
    names = [name for name in sources if name in wanted]
    if not y.requires_grad:
        why = KernelError("not_differentiable", f"{implementation.label}: its result has no gradient")
        return {**dict.fromkeys(names, why), **missing}
    try:
        with switches_kept():
            tensors = torch.autograd.grad(
                y, [sources[name] for name in names], grad_outputs=upstream, allow_unused=True
            )
    except torch.OutOfMemoryError:
        raise
    except BaseException as error:  # autograd of a stranger's kernel may raise anything
        raise_if_users(error)
        if context_is_lost(error):
            raise
        return {
            **dict.fromkeys(names, kernel_error(error, "backward: ")),
            **missing,
        }
    found = {
        # A kernel that ignores a parameter, or detaches it, gives no gradient: not the same as 0.
        name: gradient
        if gradient is not None
        else KernelError("not_differentiable", f"{implementation.label}: no gradient reaches {name}")
        for name, gradient in zip(names, tensors, strict=True)
    }
    return {**found, **missing}


def _check(value: Any, x: Tensor, fmt: FloatFormat, output: str) -> None:
    if not isinstance(value, Tensor):
        raise KernelError("wrong_dtype", f"{output} is a {type(value).__name__}, not a tensor")
    if value.shape != x.shape:
        raise KernelError(
            "wrong_shape", f"{output} has shape {tuple(value.shape)} for x of shape {tuple(x.shape)}"
        )
    if value.dtype != torch_dtype(fmt):
        raise KernelError("wrong_dtype", f"{output} is {value.dtype} for x of {torch_dtype(fmt)}")
    if value.device != x.device:
        raise KernelError("wrong_device", f"{output} is on {value.device} for x on {x.device}")


def run_reduced(
    implementation: Implementation, x: Float64, upstream: Float64, fmt: str, params: Mapping[str, float]
) -> dict[str, tuple[float, str] | Failure]:
    """Parameter gradients of Σ upstream·y as autograd reduces them, and the format they come in.

    Args:
        x, upstream: values of the format, shape (n,).

    Raises:
        DeviceLostError: the kernel destroyed the CUDA context.
    """
    wanted = [o for o in implementation.measured_outputs() if o not in ("forward", "grad_x")]
    try:
        require_capability(implementation)
        return _reduced(implementation, x, upstream, get_format(fmt), params, wanted)
    except KernelError as error:
        return dict.fromkeys(wanted, Failure(error.kind, str(error)))
    except torch.OutOfMemoryError as error:
        reason = f"{x.size} inputs at once: {first_line(error)}"
        return dict.fromkeys(wanted, Failure("out_of_memory", reason))
    except RuntimeError as error:
        raise_if_lost(implementation, error)
        raise


def _reduced(
    implementation: Implementation,
    x: Float64,
    upstream: Float64,
    source: FloatFormat,
    params: Mapping[str, float],
    wanted: Sequence[str],
) -> dict[str, tuple[float, str] | Failure]:
    core = get_format(core_format(implementation, source.name))
    point, weight = (
        to_tensor(values, core).to(implementation.device) for values in (x, source.round(upstream))
    )
    leaves = leaf_tensors(implementation, params, source.name)
    names = {output.removeprefix("grad_") for output in wanted}
    for name in names & set(leaves):
        leaves[name].requires_grad_()
    y = _guarded(lambda: call(implementation, point, leaves))
    _check(y, point, core, "forward")
    gradients = _gradients(y, leaves, names, weight, implementation)
    result: dict[str, tuple[float, str] | Failure] = {}
    for output in wanted:
        got = gradients[output.removeprefix("grad_")]
        if isinstance(got, KernelError):
            result[output] = Failure(got.kind, str(got))
        else:
            result[output] = (float(got.double().sum()), core.name)
    return result
