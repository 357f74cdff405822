"""Launches kernels of PTX texts on the emulated GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from torch import Tensor

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Launch, Size
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel, Module
from precision_lab.virtual_gpu import counting, engines, tensors
from precision_lab.virtual_gpu.contracting import ways

# A pointer to a tensor's first element, one of an address, a C number, 64 bits, or bytes as they are.
Argument: TypeAlias = "Tensor | Pointer | ctypes._SimpleCData[Any] | int | bytes | None"


class Pointer(int):
    """An address on the device; 0 points nowhere."""


def execute(
    ptx: str,
    name: str,
    grid: Size,
    block: Size | None,
    arguments: Sequence[Argument],
    shared_bytes: int = 0,
) -> None:
    """Launches a kernel of a PTX text, and returns when all of its threads have ended.

    Args:
        block: None for what it was compiled for.
        arguments: one for each parameter; None is a null pointer.

    Raises:
        KernelError: no device accepts such a launch, the kernel has what is not emulated, or did what no
            correct one does.
    """
    kernels: tuple[Kernel, ...]
    if counting.is_counting():
        kernels, why = (_kernel(ptx, name),), ""  # what is fused does not change how often it is executed
    else:
        kernels, why = _ways(ptx, name)
    kernel = kernels[0]
    if block is None:
        if kernel.block is None:
            raise Unsupported(f"{name}: it does not say how many threads a block has")
        block = kernel.block
    parameters = kernel.parameters
    if len(arguments) != len(parameters):
        raise Unsupported(f"{name}: it takes {len(parameters)} arguments and was given {len(arguments)}")
    addresses = {p.name: _address(name, a) for p, a in zip(parameters, arguments, strict=True)}
    packed = tuple(_packed(name, p.size, a) for p, a in zip(parameters, arguments, strict=True))
    pointers = {p: found for p, a in addresses.items() if a and (found := tensors.allocation_of(a))}
    other = engines.Other(kernels[1], why) if len(kernels) > 1 else None
    launch = Launch(kernel, grid, block, packed, shared_bytes)
    if counting.is_counting():
        counting.count(launch, tensors.memory(), sorted(set(pointers.values())), ptx)
    else:
        engines.run(launch, tensors.memory(), pointers, other)


@lru_cache(maxsize=512)
def _module(ptx: str) -> Module:
    return parse(ptx)


@lru_cache(maxsize=512)
def _ways(ptx: str, name: str) -> tuple[tuple[Kernel, ...], str]:
    """As machine code has it, with products and sums fused; see `contracting.ways`.

    The same objects for the same text and name: engines keep what they made of them.
    """
    return ways(_kernel(ptx, name), ptx)


def _kernel(ptx: str, name: str) -> Kernel:
    kernels = _module(ptx).kernels
    if name not in kernels:
        raise Unsupported(f"the PTX has no kernel {name!r}; it has {', '.join(kernels) or 'none'}")
    return kernels[name]


def _address(kernel: str, argument: Argument) -> int:
    """Where an argument points; 0 for one that is no pointer."""
    if isinstance(argument, Pointer):
        return argument
    if not isinstance(argument, Tensor):
        return 0
    if argument.device.type != "cuda":
        raise Unsupported(f"{kernel}: an argument is a tensor on {argument.device}, not on the emulated GPU")
    return argument.data_ptr()


def _packed(kernel: str, size: int, argument: Argument) -> bytes:
    if isinstance(argument, bytes):
        content = argument
    elif isinstance(argument, ctypes._SimpleCData):
        content = bytes(argument)
    else:
        number = argument.data_ptr() if isinstance(argument, Tensor) else argument or 0
        content = (number & (1 << 64) - 1).to_bytes(8, "little")
    if len(content) != size:
        raise Unsupported(f"{kernel}: an argument of {len(content)} bytes for a parameter of {size}")
    return content
