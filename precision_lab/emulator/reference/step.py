"""What every family of instructions is built with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import Lanes, Mask

Step: TypeAlias = Callable[[Lanes, Mask], None]  # executes an instruction for the live lanes
Builder: TypeAlias = Callable[[Instruction], Step]  # checks an instruction; raises Unsupported

INTEGERS = tuple(f"{kind}{bits}" for kind in "us" for bits in (16, 32, 64))


def bits_of(kind: str) -> int:
    """Of a scalar type: "bf16" has 16."""
    return int(kind.lstrip("bfsu"))
