"""Casts to FP8, every bf16 input against the exact rounding: torch's, Triton's and Transformer Engine's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.devices import CPU, CUDA, Device
from precision_lab.devices.emulated import is_installed
from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, E4M3, E5M2, FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.implementations import transformer_engine
from precision_lab.implementations.guard import guarded
from precision_lab.results import Conversion, Failure
from precision_lab.running.placement import Survivor, failure_of
from precision_lab.running.tensors import from_bits, to_array

SOURCE = BF16
TARGETS = (E4M3, E5M2)
Convert = Callable[[Tensor, FloatFormat, Device], Tensor]


def _torch(x: Tensor, fmt: FloatFormat, device: Device) -> Tensor:
    return x.to(torch_dtype(fmt))


def _triton(x: Tensor, fmt: FloatFormat, device: Device) -> Tensor:
    try:
        from precision_lab.implementations.triton_kernels import to_float8
    except ImportError as error:
        raise KernelError("missing_dependency", f"Triton is not installed: {error}") from error
    if device.platform == "cuda" and device.capability() < (8, 9):
        raise KernelError("unsupported_device", "Triton's FP8 conversions need compute capability 8.9")
    result: Tensor = to_float8(x, torch_dtype(fmt))
    return result


def _transformer_engine(x: Tensor, fmt: FloatFormat, device: Device) -> Tensor:
    quantized = transformer_engine.quantizer(fmt, x.device)(x.reshape(1, -1))
    return transformer_engine.stored(quantized, fmt).reshape(-1)


# Name, cast, the devices it is to be found on, and the package that compiles code of its own for it.
CASTS: tuple[tuple[str, Convert, tuple[Device, ...], str], ...] = (
    ("torch", _torch, (CPU, CUDA), ""),
    ("triton", _triton, (CUDA,), "triton"),
    ("transformer-engine", _transformer_engine, (CUDA,), ""),
)


def conversions(device: Device = CPU, *, lost: str = "") -> tuple[Conversion, ...]:
    """Every cast found on a device, to each FP8 format.

    Args:
        lost: what destroyed the device's context, so that nothing can be cast on it.

    Raises:
        ValueError: no such device.
    """
    if not lost:
        device.require()
    return tuple(_on(device, Survivor(lost)))


def _on(device: Device, survivor: Survivor) -> Iterator[Conversion]:
    for name, cast, devices, package in CASTS:
        if all(device.platform != known.platform for known in devices):
            continue
        if device.own_process and not (package and is_installed(package)):
            continue
        for target in TARGETS:
            yield survivor.attempt(
                partial(_judged, name, cast, device, target),
                partial(_failed, name, device, target),
            )


def _failed(name: str, device: Device, target: FloatFormat, failure: Failure) -> Conversion:
    return Conversion(name, device.name, SOURCE.name, target.name, failure=failure)


def _judged(name: str, cast: Convert, device: Device, target: FloatFormat) -> Conversion:
    bits = SOURCE.all_bits()
    x = from_bits(bits, SOURCE).to(device.torch)
    try:
        cast_x = guarded(partial(cast, x, target, device))
        computed = to_array(cast_x, target)  # where a GPU's errors come to light
    except (KernelError, RuntimeError) as error:
        return _failed(name, device, target, failure_of(f"{name}'s cast to {target.name}", error))
    return judge(name, device, SOURCE, target, bits, computed)


def judge(
    name: str,
    device: Device,
    source: FloatFormat,
    fmt: FloatFormat,
    bits: NDArray[Any],
    computed: NDArray[np.float64],
) -> Conversion:
    """What a cast of all patterns of a format gave, against rounding to nearest, ties to even."""
    x = source.decode(bits)
    exact = fmt.round(x)
    inside = np.isfinite(x) & np.isfinite(exact)
    wrong = inside & ~((computed == exact) & (np.signbit(computed) == np.signbit(exact)))
    first = int(np.argmax(wrong)) if wrong.any() else -1
    over, infinite, nan = np.isfinite(x) & ~inside, np.isinf(x), np.isnan(x)
    return Conversion(
        name, device.name, source.name, fmt.name,
        n_inputs=int(x.size), misrounded=int(wrong.sum()),
        witness="" if first < 0 else (
            f"x={float(x[first])!r} (bits 0x{int(bits[first]):04x}) became {float(computed[first])!r}, "
            f"not {float(exact[first])!r}"
        ),
        overflow=_named(x[over], computed[over], fmt),
        infinity=_named(x[infinite], computed[infinite], fmt), nan=_named(x[nan], computed[nan], fmt),
    )  # fmt: skip


def _named(x: NDArray[np.float64], computed: NDArray[np.float64], fmt: FloatFormat) -> str:
    """What came of inputs that the format does not hold, in one word for each thing seen."""
    largest = np.abs(computed) == fmt.max_finite
    kinds = np.where(
        np.isnan(computed),
        "NaN",
        np.where(np.isinf(computed), "infinity", np.where(largest, "saturates", "other")),
    )
    flipped = ~np.isnan(computed) & ~np.isnan(x) & (np.signbit(computed) != np.signbit(x))
    kinds = np.where(flipped, "wrong sign", kinds)
    names, counts = np.unique(kinds, return_counts=True)
    if names.size == 1:
        return str(names[0])
    return ", ".join(f"{name} ×{count}" for name, count in zip(names, counts, strict=True))


__all__ = ["conversions", "judge"]
