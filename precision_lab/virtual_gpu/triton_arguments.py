"""A Triton kernel's arguments as its PTX takes them: what Triton's launcher in C does."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from precision_lab.emulator.faults import Unsupported
from precision_lab.virtual_gpu import tensors
from precision_lab.virtual_gpu.launching import Argument, Pointer

_CONSTEXPR = "constexpr"  # a type of an argument that is compiled in
# As the launcher has them: a truth value takes 32 bits of it, of which the kernel reads the first eight.
_INTEGERS = {
    "i1": (8, False), "u1": (8, False), "i8": (8, True), "u8": (8, False), "i16": (16, True),
    "u16": (16, False), "i32": (32, True), "u32": (32, False), "i64": (64, True), "u64": (64, False),
}  # fmt: skip


def flattened(types: Sequence[Any], values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each argument of the PTX with its type: tuples are opened, and what is compiled in is left out."""
    for kind, value in zip(types, values, strict=True):
        if isinstance(kind, (tuple, list)):
            yield from flattened(kind, tuple(value))
        elif kind != _CONSTEXPR:
            yield kind, value


def packed(name: str, position: int, kind: str, value: Any) -> Argument:
    """
    Args:
        name: of the kernel.
        kind: as Triton's signature has it, such as "*fp32" or "i32".

    Raises:
        Unsupported: a descriptor of the tensor memory accelerator.
        TypeError, ValueError, OverflowError: as Triton's own launcher.
    """
    if kind.startswith("*"):
        return _pointer(position, value)
    if kind in _INTEGERS:
        bits, signed = _INTEGERS[kind]
        number = int(bool(value)) if kind in ("i1", "u1") else _integer(kind, value)
        return number.to_bytes(bits // 8, "little", signed=signed and number < 0)
    if kind in ("fp32", "f32"):
        return bytes(ctypes.c_float(value))
    if kind == "fp64":
        return bytes(ctypes.c_double(value))
    if kind == "fp16":
        return struct.pack("<e", value)
    if kind == "bf16":
        # The launcher cuts the lower half of the FP32 off, it does not round.
        return bytes(ctypes.c_float(value))[2:]
    if kind.startswith(("tensordesc", "nvTmaDesc")):
        raise Unsupported(f"{name}: argument {position} is a TMA descriptor, which is not emulated")
    raise Unsupported(f"{name}: argument {position} is of type {kind}, which is not emulated")


def _integer(kind: str, value: Any) -> int:
    """A number as a C integer takes it: one of more bits than fit is cut, as by C's conversions."""
    number = value.__index__()
    wide, signed = (64, True) if kind == "i64" else (64, kind[0] == "i")
    low, high = (-(1 << wide - 1), 1 << wide - 1) if signed else (0, 1 << wide)
    if not low <= number < high:
        raise OverflowError(f"{number} does not fit into {wide} bits, as {kind} is handed over")
    bits = _INTEGERS[kind][0]
    return int(number) & ((1 << bits) - 1)


def _pointer(position: int, value: Any) -> Pointer:
    if value is None:
        return Pointer(0)
    if isinstance(value, int):
        return Pointer(value)
    if not hasattr(value, "data_ptr"):
        raise TypeError("Pointer argument must be either uint64 or have data_ptr method")
    address = value.data_ptr()
    memory = tensors.memory()
    if address and not memory.base <= address < memory.base + memory.size:
        raise ValueError(f"Pointer argument (at {position}) cannot be accessed from Triton (cpu tensor?)")
    return Pointer(address)
