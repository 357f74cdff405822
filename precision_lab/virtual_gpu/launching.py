"""Launches kernels of PTX texts on the emulated GPU."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from torch import Tensor

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Launch, Size
from precision_lab.emulator.machine_code import assemble
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel, Module
from precision_lab.emulator.sass.code import SassKernel, pointer_name
from precision_lab.emulator.sass.text import kernel_of
from precision_lab.exceptions import UsageError
from precision_lab.numeric.nvrtc import Struct
from precision_lab.virtual_gpu import counting, engines, tensors
from precision_lab.virtual_gpu.contracting import machine_code_of, ways
from precision_lab.virtual_gpu.settings import DEVICE, ENGINE

# A pointer to a tensor's first element, one of an address, a C number, 64 bits, bytes as they are, or several
# of these in one.
Argument: TypeAlias = "Tensor | Pointer | ctypes._SimpleCData[Any] | int | bytes | Struct | None"


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
    if os.environ.get(ENGINE) == "sass" and not counting.is_counting():
        execute_machine_code(_assembled(ptx, name), grid, block, arguments, shared_bytes)
        return
    kernels: tuple[Kernel, ...]
    if counting.is_counting():
        kernels, why = (_kernel(ptx, name),), ""  # what is fused does not change how often it is executed
    else:
        kernels, why = _ways(ptx, name)
    kernel = kernels[0]
    launch, pointers = _launch(kernel, grid, block, arguments, shared_bytes)
    other = engines.Other(kernels[1], why) if len(kernels) > 1 else None
    if counting.is_counting():
        counting.count(launch, tensors.memory(), sorted(set(pointers.values())), ptx)
    else:
        engines.run(launch, tensors.memory(), pointers, other)


def execute_machine_code(
    kernel: SassKernel, grid: Size, block: Size | None, arguments: Sequence[Argument], shared_bytes: int = 0
) -> None:
    """As `execute`, of a kernel of machine code."""
    if counting.is_counting():
        raise Unsupported(f"{kernel.name}: instructions are counted of PTX, and this is machine code")
    launch, pointers = _launch(kernel, grid, block, arguments, shared_bytes)
    engines.run(launch, tensors.memory(), pointers)


def _launch(
    kernel: Kernel, grid: Size, block: Size | None, arguments: Sequence[Argument], shared_bytes: int
) -> tuple[Launch, dict[str, int]]:
    """The launch, and where each pointer among its arguments points: the allocation's first byte.

    Pointers go by their parameters' names; those within a struct by that and their byte (`pointer_name`).
    """
    name, parameters = kernel.name, kernel.parameters
    block = block or kernel.block
    if block is None:
        raise Unsupported(f"{name}: it does not say how many threads a block has")
    if len(arguments) != len(parameters):
        raise Unsupported(f"{name}: it takes {len(parameters)} arguments and was given {len(arguments)}")
    packed = tuple(_packed(name, p.size, a) for p, a in zip(parameters, arguments, strict=True))
    pointers = {}
    for p, a in zip(parameters, arguments, strict=True):
        for offset, value in a.values if isinstance(a, Struct) else ((0, a),):
            if (address := _address(name, value)) and (found := tensors.allocation_of(address)):
                pointers[pointer_name(p.name, offset)] = found
    missing = (p.offset + k for p, a in zip(parameters, arguments, strict=True) for k in _missing(p.size, a))
    launch = Launch(kernel, grid, block, packed, shared_bytes, missing=frozenset(missing))
    return launch, pointers


def _missing(size: int, argument: Argument) -> set[int]:
    """The bytes of a struct that none of its values fills."""
    if not isinstance(argument, Struct):
        return set()
    return set(range(size)) - {
        offset + k for offset, value in argument.values for k in range(_bytes_of(value))
    }  # fmt: skip


def _bytes_of(value: object) -> int:
    return len(bytes(value)) if isinstance(value, ctypes._SimpleCData) else 8


@lru_cache(maxsize=512)
def _assembled(ptx: str, name: str) -> SassKernel:
    """The machine code that the compiler made of a PTX text, or else ptxas.

    Raises:
        Unsupported: ptxas does not take it, or its disassembly is not understood.
    """
    target = os.environ.get(DEVICE, "sm_90")
    cubin = machine_code_of(ptx)
    if cubin is None:
        said = re.search(r"^\s*\.target\s+(sm_\d+[a-z]?)", ptx, re.MULTILINE)
        try:
            cubin = assemble(ptx, said.group(1) if said and said.group(1)[-1].isalpha() else target)
        except UsageError as error:
            raise Unsupported(f"{name}: {error}") from error
    return kernel_of(cubin, name, target)


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
    if isinstance(argument, Struct):
        buffer = bytearray(size)
        for offset, value in argument.values:
            own = _bytes_of(value)
            buffer[offset : offset + own] = _packed(kernel, own, value)
        content = bytes(buffer)
    elif isinstance(argument, bytes):
        content = argument
    elif isinstance(argument, ctypes._SimpleCData):
        content = bytes(argument)
    else:
        number = argument.data_ptr() if isinstance(argument, Tensor) else argument or 0
        content = (number & (1 << 64) - 1).to_bytes(8, "little")
    if len(content) != size:
        raise Unsupported(f"{kernel}: an argument of {len(content)} bytes for a parameter of {size}")
    return content
