"""Small PTX programs for tests, and launches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from precision_lab.emulator.launch import Launch, argument
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel

REGISTERS = """
    .reg .pred %p<16>;
    .reg .b16 %h<32>;
    .reg .b32 %r<64>;
    .reg .b64 %d<64>;
    .reg .f32 %f<32>;
    .reg .f64 %g<32>;
"""
# The number of a thread in all, and x + 4·thread in %d9.
THREAD = """
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    ld.param.u64 %d1, [x];
    ld.param.u64 %d2, [y];
    mul.wide.u32 %d3, %r4, 4;
    add.u64 %d9, %d1, %d3;
    add.u64 %d8, %d2, %d3;
"""


def kernel(body: str, *, before: str = "", target: str = "sm_90") -> Kernel:
    """A kernel of parameters x, y (pointers) and n (u32) with the registers above."""
    text = f"""
.version 8.6
.target {target}
.address_size 64
{before}
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{{
{REGISTERS}
{body}
    ret;
}}
"""
    return parse(text).kernels["k"]


def launch(
    found: Kernel, x: int, y: int, n: int, *, blocks: int = 1, threads: int = 32, **more: Any
) -> Launch:
    return Launch(found, (blocks, 1, 1), (threads, 1, 1), argument([x, y, n], [8, 8, 4]), **more)


def memory() -> Memory:
    return Memory.reserve(1 << 24)


def words(values: Sequence[int]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.array(values, np.uint32)
