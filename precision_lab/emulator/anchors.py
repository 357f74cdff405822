"""Instructions that PTX and the machine code made of it have in common, by which one is found in the other.

The assembler keeps the order and the number of accesses to memory, of shuffles and barriers, and of most
approximate functions. Additions it may make itself, where it writes a division out; but it does not drop one.
"""

from __future__ import annotations

import re

from precision_lab.emulator.machine_code import MachineInstruction
from precision_lab.emulator.ptx import Instruction

# Groups of kinds, those first that the assembler is least bound to keep.
SUMS = "sums"
GROUPS = (SUMS, "functions", "shared", "loads", "stores", "synchronisation")
AT_LEAST = (SUMS,)  # of these machine code may have more
Kind = tuple[str, str]  # a group, and which of it

_WIDTH = re.compile(r"(?:[busf]|bf)(\d+)(?:x2)?")
_VECTOR = {"v2": 2, "v4": 4, "v8": 8}
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
# Approximate functions that the assembler does not make itself.
_FUNCTIONS = {"ex2": "EX2", "lg2": "LG2", "tanh": "TANH", "sin": "SIN", "cos": "COS"}
_SUMS = {
    "FADD": ("f32", 1), "FFMA": ("f32", 1), "FADD32I": ("f32", 1), "FFMA32I": ("f32", 1), "FADD2": ("f32", 2),
    "FFMA2": ("f32", 2), "DADD": ("f64", 1), "DFMA": ("f64", 1),
}  # fmt: skip


def bytes_of(i: Instruction) -> int:
    """Of one thread's access to memory."""
    sizes = [int(found.group(1)) for text in i.modifiers if (found := _WIDTH.fullmatch(text))]
    count = next((_VECTOR[m] for m in i.modifiers if m in _VECTOR), 1)
    return (sizes[-1] if sizes else 0) // 8 * count


def machine_bytes(i: MachineInstruction) -> int:
    """Of one thread's access to memory."""
    return next((_BYTES[m] for m in i.modifiers if m in _BYTES), 4)


def kind_of(i: Instruction) -> tuple[Kind, int] | None:
    """What an instruction of PTX must show as, and how often; None for what is not followed."""
    if i.opcode in ("ld", "st") and "global" in i.modifiers:
        return (("loads" if i.opcode == "ld" else "stores"), str(bytes_of(i))), 1
    if i.opcode in ("ld", "st") and ("shared" in i.modifiers or "shared::cta" in i.modifiers):
        return ("shared", f"{i.opcode} {bytes_of(i)}"), 1
    if i.opcode in ("atom", "red") and "global" in i.modifiers:
        return ("synchronisation", "atomic"), 1
    if i.opcode == "shfl":
        return ("synchronisation", "shuffle"), 1
    if i.opcode in ("bar", "barrier") and "warp" not in i.modifiers:
        return ("synchronisation", "barrier"), 1
    if i.opcode in _FUNCTIONS and "approx" in i.modifiers and i.type == "f32":
        return ("functions", _FUNCTIONS[i.opcode]), 1
    if i.opcode in ("add", "sub", "fma") and i.type in ("f32", "f64", "f32x2"):
        return (SUMS, i.type.removesuffix("x2")), 2 if i.type == "f32x2" else 1
    return None


def machine_kind(i: MachineInstruction) -> tuple[Kind, int] | None:
    """The same of an instruction of machine code."""
    if i.opcode in ("LDG", "STG"):
        return (("loads" if i.opcode == "LDG" else "stores"), str(machine_bytes(i))), 1
    if i.opcode in ("LDS", "STS"):
        return ("shared", f"{'ld' if i.opcode == 'LDS' else 'st'} {machine_bytes(i)}"), 1
    if i.opcode in ("ATOMG", "RED", "REDG"):
        return ("synchronisation", "atomic"), 1
    if i.opcode == "SHFL":
        return ("synchronisation", "shuffle"), 1
    if i.opcode == "BAR":
        return ("synchronisation", "barrier"), 1
    if i.opcode == "MUFU" and i.modifiers[:1] and i.modifiers[0] in _FUNCTIONS.values():
        return ("functions", i.modifiers[0]), 1
    if i.opcode in _SUMS:
        kind, count = _SUMS[i.opcode]
        return (SUMS, kind), count
    return None
