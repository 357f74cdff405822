"""Faults as they stand in a compiler's output: each changes results or is named, the sound program does not.

The programs are what Triton makes of the kernels in `programs/make.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from ptx_programs import memory

from precision_lab.emulator.faults import Fault
from precision_lab.emulator.launch import Launch, argument
from precision_lab.emulator.parser import parse
from precision_lab.emulator.reference.engine import ReferenceEngine

PROGRAMS = Path(__file__).parent / "programs"
BF16 = np.arange(1 << 16, dtype=np.uint16)[:-7]  # the last block is masked
SUMMED = np.random.default_rng(7).integers(-1000, 1000, 4096 - 100).astype(np.float32)  # sums are exact
NEAR = np.linspace(-3e-38, 3e-38, 4001, dtype=np.float32)
WIDE = np.concatenate([ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max * np.linspace(-2, 2, 4000), [np.nan]])
WIDE = np.concatenate([WIDE, np.ldexp(np.linspace(-2, 2, 999), -9)]).astype(np.float32)


def given(name: str) -> NDArray[Any]:
    return {"line": BF16, "total": SUMMED, "growth": NEAR, "eighth": WIDE}[name]


def expected(name: str) -> NDArray[Any]:
    x = given(name)
    with np.errstate(all="ignore"):
        if name == "line":
            wide = x.view(ml_dtypes.bfloat16).astype(np.float64)
            narrow = (2.5 * wide + 1.0).astype(np.float32).astype(ml_dtypes.bfloat16)
            return np.where(np.isnan(wide), np.uint16(0x7FFF), narrow.view(np.uint16))
        if name == "total":
            return np.resize(np.pad(x, (0, 100)), (4, 1024)).sum(1).view(np.uint32)
        if name == "growth":  # eˣ − 1 is x there, and what libdevice makes of a subnormal is a zero
            flushed = np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)
            return (flushed + np.float32(0)).view(np.uint32)
        clipped = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return np.where(np.isnan(x), np.uint8(0x7F), clipped)


def run(name: str, text: str) -> NDArray[Any]:
    kernel = parse(text).kernels[name]
    x, want = given(name), expected(name)
    room = memory()
    source, target = room.put(x), room.allocate(want.nbytes)
    blocks = -(-x.size // (1024 if name == "total" else 256))
    sizes = [p.size for p in kernel.parameters]
    arguments = argument([source, target, x.size, *[0] * (len(sizes) - 3)], sizes)
    ReferenceEngine().run(Launch(kernel, (blocks, 1, 1), (128, 1, 1), arguments, shared_bytes=16), room)
    return room.get(target, want.dtype, want.size)


def program(name: str) -> str:
    return (PROGRAMS / f"{name}.ptx").read_text(encoding="utf-8")


def differing(name: str, text: str) -> int:
    got, want = run(name, text), expected(name)
    if name == "growth":  # zeros of either sign
        got, want = got.view(np.float32), want.view(np.float32)
    return int((got != want).sum())


@pytest.mark.parametrize("name", ["line", "total", "growth", "eighth"])
def test_the_programs_as_they_are_give_what_they_should(name: str) -> None:
    assert differing(name, program(name)) == 0


WRONG = {
    "rounded towards zero": ("line", "cvt.rn.bf16.f32", "cvt.rz.bf16.f32", 16_000),
    "rounded up once": ("line", "fma.rn.f32", "fma.rp.f32", 1),
    "not fused": ("line", "0f40200000", "0f40200001", 50),
    "another constant": ("line", "0f3F800000", "0f3F7FFFFF", 30),
    "not flushed": ("growth", "fma.rn.ftz.f32", "fma.rn.f32", 500),
    "halves swapped": ("eighth", "%rs1, %r3, %r2", "%rs1, %r2, %r3", 2000),
    "another format": ("eighth", "e4m3x2.f32", "e5m2x2.f32", 4000),
    "signed where it is not": ("eighth", "shr.s16 \t%rs2, %rs1, 8", "shr.s16 \t%rs2, %rs1, 7", 2000),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_instruction_changes_results(fault: str) -> None:
    name, old, new, least = WRONG[fault]
    text = program(name)
    assert old in text
    assert differing(name, text.replace(old, new)) >= least


NAMED = {
    "a load without its mask": ("line", "@%p2 ld.global", "ld.global", "out_of_bounds"),
    "a store without its mask": ("line", "@%p2 st.global", "st.global", "out_of_bounds"),
    "the other mask": ("line", "@%p", "@!%p", "out_of_bounds"),
    "no barrier": ("total", "bar.sync", "// bar.sync", "race"),
    # The other half reads too early, which is seen before it is that nobody else comes.
    "a barrier for half": ("total", "bar.sync", "setp.lt.u32 %p9, %r14, 64; @%p9 bar.sync", "race"),
    # Every thread of a warp stores the sum that all should have.
    "lanes swapped": ("total", ", 16, 31", ", 8, 31", "race"),
    "a lane of another kind": ("total", "shfl.sync.bfly.b32", "shfl.sync.down.b32", "race"),
    "a shuffle of nobody": ("total", "31, -1;", "31, 0;", "divergent_barrier"),
    "twice as far": ("line", "%rd7, %r6, 2", "%rd7, %r6, 4", "out_of_bounds"),
    "half an element off": ("line", "[ %rd1 + 0 ]", "[ %rd1 + 1 ]", "misaligned"),
}  # fmt: skip


@pytest.mark.parametrize("fault", NAMED)
def test_a_wrong_access_is_named(fault: str) -> None:
    name, old, new, kind = NAMED[fault]
    text = program(name)
    assert old in text
    with pytest.raises(Fault) as caught:
        run(name, text.replace(old, new))
    assert caught.value.kind == kind
