"""Runs an implementation on float64 arrays of format values; every fault becomes a named `Failure`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.formats import FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.functions.base import SECOND
from precision_lab.implementations.adapters.foreign import foreign_hint
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.guard import guarded
from precision_lab.implementations.switches import switches_kept
from precision_lab.results import Failure
from precision_lab.running.case import Case
from precision_lab.running.clock import FEWEST, Clock, first_call
from precision_lab.running.placement import raise_if_lost, require_capability
from precision_lab.running.selfcheck import require_ieee
from precision_lab.running.tensors import from_bits, store, to_numpy, to_tensor
from precision_lab.running.torch_compile import compiled_kernel


def synchronize(implementation: Implementation) -> None:
    """Waits for the device, so that an error is met where it was made."""
    implementation.device.synchronize()


def leaf_tensors(case: Case) -> dict[str, Tensor]:
    """Parameter tensors by name, 0-d or as the adapter has them, none requiring a gradient yet.

    Raises:
        KernelError: as `Case.effective`.
    """
    implementation, core = case.implementation, case.core
    make = implementation.leaves
    if make is not None:
        tensors: dict[str, Tensor] = guarded(lambda: make(case.asked, case.fmt))
        return {name: tensor.to(implementation.device.torch) for name, tensor in tensors.items()}
    return {
        name: to_tensor(core.round(np.array([value])), core)[0].to(implementation.device.torch)
        for name, value in case.asked.items()
        if implementation.is_given(name)
    }


def call(
    implementation: Implementation, x: Tensor, leaves: Mapping[str, Tensor], clock: Clock | None = None
) -> Tensor:
    """The kernel's result for tensors of the core format, in the implementation's execution."""
    kernel = implementation.kernel
    if implementation.execution.compiled:
        kernel = compiled_kernel(implementation)
    # Of x's shape where the kernel is compiled: then any element is the number.
    numbers = {name: leaves[name].reshape(-1)[0].item() for name in implementation.numbers if name in leaves}
    with switches_kept(), clock.running("forward", x.numel()) if clock else nullcontext():
        if implementation.execution.upcast:
            wide = {n: leaf.float() for n, leaf in leaves.items()}
            y: Tensor = kernel(x.float(), **{**wide, **numbers}).to(x.dtype)
            return y
        return kernel(x, **{**leaves, **numbers})  # type: ignore[no-any-return]


def run(case: Case, x: NDArray[Any], clock: Clock | None = None) -> dict[str, NDArray[Any] | Failure]:
    """The case's outputs as `to_numpy` gives them; a failed output is a `Failure` and the others go on.

    Args:
        x: values of the format as float64, or its bit patterns as unsigned integers, shape (n,).
        clock: gets the time of the kernel's calls.
    """
    found = run_tensors(case, input_tensor(case, x), clock)
    return {
        output: value if isinstance(value, Failure) else to_numpy(value, case.output_format(output))
        for output, value in found.items()
    }


def input_tensor(case: Case, x: NDArray[Any]) -> Tensor:
    """What the kernel gets for values or bit patterns of the format, on its device."""
    fmt, core = case.fmt, case.core
    if x.dtype.kind == "f" or core is not fmt:
        # FP8 values are exact in the core's format, so the core sees the stored numbers.
        point = to_tensor(x if x.dtype.kind == "f" else fmt.decode(x), core)
    else:
        point = from_bits(x, fmt)
    return point.to(case.implementation.device.torch)


def core_tensor(case: Case, values: Tensor) -> Tensor:
    """Numbers of the format as the kernel gets them: FP8 values are exact in the core's format."""
    return values if case.core is case.fmt else values.float().to(torch_dtype(case.core))


def run_tensors(case: Case, point: Tensor, clock: Clock | None = None) -> dict[str, Tensor | Failure]:
    """`run` for the tensor of `input_tensor`; results stay where they are, in their output formats.

    Raises:
        torch.OutOfMemoryError: the device's memory is too small for so many inputs.
        DeviceLostError: the kernel destroyed the CUDA context.
    """
    implementation = case.implementation
    try:
        require_capability(implementation)
        with one_thread(implementation):
            found = _laid_out(case, point, clock)
            synchronize(implementation)
            return found
    except KernelError as error:
        said = foreign_hint(implementation.kernel) if error.kind in ("raised", "wrong_dtype") else ""
        return dict.fromkeys(case.outputs, Failure(error.kind, f"{error}{said}"))
    except RuntimeError as error:
        raise_if_lost(implementation, error)
        raise


def attempt(case: Case, shape: tuple[int, ...]) -> KernelError | None:
    """What a kernel raises for ones in a shape, forward and d/dx; None where it accepts them."""
    implementation = case.implementation
    x = torch.ones(shape, device=implementation.device.torch).to(torch_dtype(case.core))
    case = case.giving(*(o for o in ("forward", "grad_x") if o in implementation.measured_outputs()))
    try:
        with one_thread(implementation):
            found = _run(case, x)
    except KernelError as error:
        return error
    failures = [value for value in found.values() if isinstance(value, Failure)]
    return KernelError(failures[0].kind, failures[0].message) if failures else None


def _laid_out(case: Case, point: Tensor, clock: Clock | None) -> dict[str, Tensor | Failure]:
    """`_run` in calls of shapes that the kernel's contract accepts, which may be larger or smaller.

    What is left over of a call repeats inputs, whose results are dropped.
    """
    outputs = case.outputs
    shape = case.implementation.contract.shape_for(max(point.numel(), 1))
    if shape is None or shape == tuple(point.shape) or not point.numel():
        return _run(case, point, clock)
    n, size = point.numel(), math.prod(shape)
    parts: dict[str, list[Tensor]] = {output: [] for output in outputs}
    failures: dict[str, Failure] = {}
    for start in range(0, n, size):
        index = (start + torch.arange(size, device=point.device)) % n
        found = _run(case, point[index].reshape(shape), clock)
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
    if not implementation.execution.compiled:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(case: Case, point: Tensor, clock: Clock | None = None) -> dict[str, Tensor | Failure]:
    implementation, outputs, fmt, core = case.implementation, case.outputs, case.fmt, case.core
    leaves = leaf_tensors(case)
    wanted = {o.removeprefix("grad_") for o in outputs if o.startswith("grad_") and o != SECOND}
    # One graph per kernel and dtype: a compiled kernel always gets x-shaped parameters.
    everywhere = implementation.execution.compiled
    expanded = {
        name: leaf.expand(point.shape).clone() if everywhere or name in wanted else leaf
        for name, leaf in leaves.items()
    }
    if wanted or everywhere or SECOND in outputs:
        point.requires_grad_()
        for name in wanted & set(expanded):
            expanded[name].requires_grad_()
        if everywhere:
            for leaf in expanded.values():
                leaf.requires_grad_()
    first = first_call(implementation, tuple(point.shape), point.dtype, frozenset(wanted))
    if first or point.numel() < FEWEST:
        clock = None
    implementation.device.unwritten()  # what others have read before
    y = guarded(lambda: call(implementation, point, expanded, clock))
    stored = core if implementation.storage is None else implementation.storage
    check_result(y, point, stored, "forward")
    if words := implementation.device.unwritten(y):
        raise KernelError("unwritten_read", f"forward: {words}")
    require_ieee()  # before anything else is computed, or kept, in a thread that the kernel may have changed
    # The forward's result is what was there before a backward could write into it.
    forward = y.detach().clone() if (wanted or SECOND in outputs) and "forward" in outputs else y.detach()
    result: dict[str, Tensor | Failure] = {}
    upstream = torch.ones_like(y) if wanted else y
    twice = _second(y, point, implementation) if SECOND in outputs else None
    found = gradients(y, {"x": point, **expanded}, wanted, upstream, implementation, clock)
    require_ieee()
    read_in_backward = implementation.device.unwritten()
    for output in outputs:
        target = case.output_format(output)
        try:
            value = forward if output == "forward" else found.get(output.removeprefix("grad_"), twice)
            assert value is not None
            if isinstance(value, KernelError):
                raise value
            check_result(value, point, stored, output)
            read = read_in_backward if output != "forward" else ""
            if words := implementation.device.unwritten(value) or read:
                raise KernelError("unwritten_read", f"{output}: {words}")
            if objection := implementation.device.objection(value):
                words = f"{output} is not examined on {implementation.device.name}: {objection}"
                raise KernelError("not_emulated", words)
            if core is not fmt:
                value = store(value, target, saturating=implementation.saturating)
            result[output] = value.detach()
        except KernelError as error:
            result[output] = Failure(error.kind, str(error))
    return result


def _second(y: Tensor, x: Tensor, implementation: Implementation) -> Tensor | KernelError:
    """d²/dx² by a backward of the backward, or why there is none; the graph of y stays."""
    if not y.requires_grad:
        return KernelError("not_differentiable", f"{implementation.label}: its result has no gradient")

    def twice() -> Tensor | None:
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        if not slope.requires_grad:
            return None
        (found,) = torch.autograd.grad(slope, x, torch.ones_like(slope), retain_graph=True, allow_unused=True)
        return found

    try:
        found: Tensor | None = guarded(twice, "double backward: ")
    except KernelError as error:
        return error
    if found is None:
        return KernelError("not_differentiable", f"{implementation.label}: its d/dx has no gradient")
    return found


def gradients(
    y: Tensor,
    sources: Mapping[str, Tensor],
    wanted: set[str],
    upstream: Tensor,
    implementation: Implementation,
    clock: Clock | None = None,
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
        tensors = guarded(
            partial(_differentiated, y, [sources[n] for n in names], upstream, clock), "backward: "
        )
    except KernelError as error:
        return {**dict.fromkeys(names, error), **missing}
    found = {
        # A kernel that ignores a parameter, or detaches it, gives no gradient: not the same as 0.
        name: gradient
        if gradient is not None
        else KernelError("not_differentiable", f"{implementation.label}: no gradient reaches {name}")
        for name, gradient in zip(names, tensors, strict=True)
    }
    return {**found, **missing}


def _differentiated(
    y: Tensor, sources: Sequence[Tensor], upstream: Tensor, clock: Clock | None
) -> tuple[Tensor, ...]:
    with clock.running("backward", y.numel()) if clock else nullcontext():
        return torch.autograd.grad(y, sources, grad_outputs=upstream, allow_unused=True)


def check_result(value: Any, x: Tensor, fmt: FloatFormat, output: str) -> None:
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
