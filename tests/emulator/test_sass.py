"""Machine code that ptxas makes of PTX, executed from the disassembler's text, returns the same bits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from emulation import needs_programs
from one_instruction import run, run_kernel, text, widths

from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.emulator.launch import Launch, argument
from precision_lab.emulator.machine_code import assemble
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.reference.engine import BATCH, ReferenceEngine
from precision_lab.emulator.sass.code import SassKernel
from precision_lab.emulator.sass.cubin import kernel_names, layout, sections
from precision_lab.emulator.sass.engine import SassEngine
from precision_lab.emulator.sass.text import kernel_of
from precision_lab.exceptions import UsageError

Array = np.ndarray[Any, Any]
TARGETS = ("sm_80", "sm_90")
PTX, SASS = ReferenceEngine(), SassEngine()
each_target = pytest.mark.parametrize("target", TARGETS)


pytestmark = needs_programs("nvdisasm")


def numbers(bits: int, count: int) -> list[Array]:
    """Arrays of edges with one another, and of numbers of any bits."""
    top = 1 << (bits - 1)
    fraction, exponent = {16: (10, 5), 32: (23, 8), 64: (52, 11)}[bits]
    infinity, one = ((1 << exponent) - 1) << fraction, ((1 << (exponent - 1)) - 1) << fraction
    edges = [
        0,
        1,
        (1 << fraction) - 1,
        1 << fraction,
        one - 1,
        one,
        one + 1,
        infinity - 1,
        infinity,
        infinity + 1,
    ]
    edges = [e | s for e in edges for s in (0, top)]
    random = np.random.default_rng(bits + count)
    kind = {16: np.uint16, 32: np.uint32, 64: np.uint64}[bits]
    columns = [[edges[int(k)] for k in random.integers(0, len(edges), 500)] for _ in range(count)]
    return [
        np.concatenate([np.array(c, kind), random.integers(0, 2 * top - 1, 500, np.uint64).astype(kind)])
        for c in columns
    ]


@cache
def machine_code(lines: str, sources: tuple[int, ...], results: tuple[str, ...], target: str) -> SassKernel:
    return kernel_of(assemble(text(lines, sources, results, target), target), "one", target)


def pair(lines: str, target: str, sources: list[Array], *results: str) -> tuple[list[Array], list[Array]]:
    """What the PTX engine and the engine of machine code make of the same lines."""
    code = machine_code(lines, widths(sources), results, target)
    return run(PTX, lines, sources, *results), run_kernel(SASS, code, sources, *results)


def same(lines: str, target: str, sources: list[Array], *results: str) -> None:
    for expected, found in zip(*pair(lines, target, sources, *results), strict=True):
        np.testing.assert_array_equal(found, expected)


SINGLE = {
    f"{op}.{mode}{ftz}.f32": (32, count)
    for op, count in (("add", 2), ("mul", 2), ("fma", 3)) for mode in ("rn", "rz", "rm", "rp")
    for ftz in ("", ".ftz")
} | {
    f"{op}.{mode}.f32": (32, count)
    for op, count in (("div", 2), ("sqrt", 1), ("rcp", 1)) for mode in ("rn", "rz")
}  # fmt: skip


@each_target
@pytest.mark.parametrize("name", SINGLE)
def test_arithmetic_of_fp32_is_the_same(name: str, target: str) -> None:
    """Quotients and roots among them, whose long way is a subroutine of ptxas's."""
    bits, count = SINGLE[name]
    operands = ", ".join(f"%{c}" for c in "abc"[:count])
    same(f"{name} %r, {operands};", target, numbers(bits, count), "b32")


@each_target
@pytest.mark.parametrize("name", ["add.rn.f64", "mul.rn.f64", "fma.rn.f64", "fma.rz.f64"])
def test_arithmetic_of_fp64_is_the_same(name: str, target: str) -> None:
    count = 3 if name.startswith("fma") else 2
    operands = ", ".join(f"%{c}" for c in "abc"[:count])
    same(f"{name} %r, {operands};", target, numbers(64, count), "b64")


@each_target
@pytest.mark.parametrize("op", ["div.rn.f64", "sqrt.rn.f64", "rcp.rn.f64", "max.f64", "min.f64"])
def test_quotients_of_fp64_are_the_same_but_for_the_bits_of_nan(op: str, target: str) -> None:
    """Which NaN it is the manual leaves open; the PTX engine has one, machine code keeps an operand's."""
    count = 1 if op.startswith(("sqrt", "rcp")) else 2
    operands, sources = ", ".join(f"%{c}" for c in "ab"[:count]), numbers(64, count)
    (expected,), (found,) = pair(f"{op} %r, {operands};", target, sources, "b64")
    nan = np.isnan(expected.view(np.float64))
    assert np.isnan(found.view(np.float64))[nan].all()
    np.testing.assert_array_equal(found[~nan], expected[~nan])
    assert (found[nan] != expected[nan]).any()


LINES = {
    "packed fma": ("fma.rn.f16x2 %r, %a, %b, %c;", (32, 32, 32), ("b32",)),
    "packed fma of bf16": ("fma.rn.bf16x2 %r, %a, %b, %c;", (32, 32, 32), ("b32",)),
    "minimum": ("min.f32 %r, %a, %b;", (32, 32), ("b32",)),
    "packed maximum": ("max.f16x2 %r, %a, %b;", (32, 32), ("b32",)),
    "comparison": ("setp.ltu.f32 %r, %a, %b;", (32, 32), ("pred",)),
    "comparison of fp64": ("setp.ge.f64 %r, %a, %b;", (64, 64), ("pred",)),
    "comparison of 64 bits": ("setp.ge.s64 %r, %a, %b;", (64, 64), ("pred",)),
    "sum of 64 bits": ("add.u64 %r, %a, %b;", (64, 64), ("b64",)),
    "difference of 64 bits": ("sub.u64 %r, %a, %b;", (64, 64), ("b64",)),
    "product of 64 bits": ("mul.lo.u64 %r, %a, %b;", (64, 64), ("b64",)),
    "upper half of a product": ("mul.hi.u64 %r, %a, %b;", (64, 64), ("b64",)),
    "wide product": ("mul.wide.s32 %r, %a, %b;", (32, 32), ("b64",)),
    "shift of 64 bits": ("shr.s64 %r, %a, %b;", (64, 32), ("b64",)),
    "funnel shift": ("shf.r.clamp.b32 %r, %a, %b, %c;", (32, 32, 32), ("b32",)),
    "any three bits": ("lop3.b32 %r, %a, %b, %c, 0x6a;", (32, 32, 32), ("b32",)),
    "chosen bytes": ("prmt.b32 %r, %a, %b, %c;", (32, 32, 32), ("b32",)),
    "highest bit": ("bfind.u32 %r, %a;", (32,), ("b32",)),
    "to bf16": ("cvt.rn.bf16.f32 %r, %a;", (32,), ("b16",)),
    "to a pair": ("cvt.rn.f16x2.f32 %r, %a, %b;", (32, 32), ("b32",)),
    "from fp16": ("cvt.f32.f16 %r, %a;", (16,), ("b32",)),
    "to an integer": ("cvt.rzi.s32.f32 %r, %a;", (32,), ("b32",)),
    "to 64 bits": ("cvt.rni.s64.f64 %r, %a;", (64,), ("b64",)),
    "from 64 bits": ("cvt.rn.f32.u64 %r, %a;", (64,), ("b32",)),
    "rounded to an integer": ("cvt.rmi.f32.f32 %r, %a;", (32,), ("b32",)),
    "2 to a power": ("ex2.approx.ftz.f32 %r, %a;", (32,), ("b32",)),
    "logarithm": ("lg2.approx.ftz.f32 %r, %a;", (32,), ("b32",)),
    "reciprocal": ("rcp.approx.ftz.f32 %r, %a;", (32,), ("b32",)),
    "hyperbolic tangent": ("tanh.approx.f32 %r, %a;", (32,), ("b32",)),
    "three lanes below": ("shfl.sync.up.b32 %r, %a, 3, 0x800, -1;", (32,), ("b32",)),
    "three lanes above": ("shfl.sync.down.b32 %r, %a, 3, 0x1807, -1;", (32,), ("b32",)),
    # Some go the long way, at the end of the code, and the others must wait for them.
    "quotient of the next lane": (
        "div.rn.f32 %r, %a, %b; shfl.sync.bfly.b32 %r, %r, 1, 31, -1;", (32, 32), ("b32",),
    ),
    "ballot": (
        ".reg .pred %p; setp.lt.s32 %p, %a, 0; vote.sync.ballot.b32 %r, %p, -1;", (32,), ("b32",),
    ),
}  # fmt: skip


@each_target
@pytest.mark.parametrize("name", LINES)
def test_an_instruction_is_the_same(name: str, target: str) -> None:
    lines, bits, results = LINES[name]
    sources = [numbers(b, len(bits))[k] for k, b in enumerate(bits)]
    if name == "shift of 64 bits":
        sources[1] = sources[1] % np.uint32(70)
    same(lines, target, sources, *results)


@each_target
@pytest.mark.parametrize("op", ["add.u32", "min.u32", "max.s32", "add.f32"])
def test_atomics_return_what_was_there_and_store_the_same(op: str, target: str) -> None:
    """%at is the address of %b by then. Without bit 30 the numbers of a sum are finite."""
    sources = numbers(32, 2)
    if op == "add.f32":
        sources = [
            np.arange(256, dtype=np.float32).view(np.uint32),
            sources[1][-256:] & np.uint32(0xBFFFFFFF),
        ]
    same(f"atom.global.{op} %r, [%at], %a; ld.global.b32 %s, [%at];", target, sources, "b32", "b32")


@pytest.mark.parametrize("kind", ["e4m3x2", "e5m2x2"])
def test_conversions_to_and_from_fp8_are_the_same(kind: str) -> None:
    same(f"cvt.rn.satfinite.{kind}.f32 %r, %a, %b;", "sm_90", numbers(32, 2), "b16")
    same(f"cvt.rn.f16x2.{kind} %r, %a;", "sm_90", [np.arange(1 << 16, dtype=np.uint16)], "b32")


@each_target
def test_a_quotient_by_zero_is_all_ones(target: str) -> None:
    """So is the rest, which the manual leaves open; the PTX engines give the dividend."""
    sources = [np.array([0, 1, 7, 1 << 31], np.uint32), np.zeros(4, np.uint32)]
    expected, found = pair("div.u32 %r, %a, %b; rem.u32 %s, %a, %b;", target, sources, "b32", "b32")
    assert (found[0] == 0xFFFFFFFF).all() and (found[1] == 0xFFFFFFFF).all()
    assert (expected[1] == sources[0]).all()


@each_target
def test_constants_are_taken_from_the_code(target: str) -> None:
    """The text of a NaN does not say which one it is."""
    lines = "selp.b32 %r, 0x7fc12345, %a, %b;"
    sources = [np.arange(8, dtype=np.uint32), np.arange(8) % 2 == 0]
    same(lines, target, sources, "b32")
    code = machine_code(lines, widths(sources), ("b32",), target)
    assert any(i.immediate == 0x7FC12345 for i in code.code)


@each_target
def test_another_program_is_told_apart(target: str) -> None:
    """The comparison is seen to fail."""
    sources = numbers(32, 2)
    other = machine_code("sub.rn.f32 %r, %a, %b;", widths(sources), ("b32",), target)
    expected = run(PTX, "add.rn.f32 %r, %a, %b;", sources, "b32")
    assert (run_kernel(SASS, other, sources, "b32")[0] != expected[0]).any()


@each_target
def test_what_is_not_emulated_is_named_with_its_address(target: str) -> None:
    sources = numbers(32, 1)
    code = machine_code("cos.approx.f32 %r, %a;", widths(sources), ("b32",), target)
    with pytest.raises(Unsupported, match=r"MUFU\.COS is not emulated.*machine code at 0x[0-9a-f]{4}"):
        run_kernel(SASS, code, sources, "b32")


def test_a_modifier_that_is_not_known_is_refused() -> None:
    sources = numbers(32, 2)
    code = machine_code("add.rn.f32 %r, %a, %b;", widths(sources), ("b32",), "sm_80")
    unknown = [replace(i, modifiers=(*i.modifiers, "ODD")) if i.opcode == "FADD" else i for i in code.code]
    with pytest.raises(Unsupported, match=r"modifier \.ODD"):
        run_kernel(SASS, replace(code, code=tuple(unknown)), sources, "b32")


@each_target
def test_more_blocks_than_are_executed_at_once(target: str) -> None:
    sources = [np.arange(BATCH + 1000, dtype=np.uint32)]
    same("mul.lo.u32 %r, %a, 3;", target, sources, "b32")


# -- whole programs --------------------------------------------------------------------------------

TOTAL = """
.version 8.0
.target {target}
.address_size 64
.visible .entry total(.param .u64 x, .param .u64 y, .param .u32 n)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<19>;
    .reg .b64 %d<9>;
    .shared .align 4 .b8 halves[16];
    ld.param.u64 %d1, [x];
    ld.param.u64 %d2, [y];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    mov.b32 %r3, 0;
LOOP:
    setp.ge.u32 %p1, %r2, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %d3, %r2, 4;
    add.u64 %d3, %d1, %d3;
    ld.global.u32 %r4, [%d3];
    and.b32 %r5, %r4, 1;
    setp.eq.u32 %p2, %r5, 0;
    @%p2 bra EVEN;
    mad.lo.u32 %r3, %r4, 3, %r3;
EVEN:
    add.u32 %r3, %r3, %r4;
    add.u32 %r2, %r2, 64;
    bra LOOP;
DONE:
    shfl.sync.bfly.b32 %r6, %r3, 16, 31, -1;
    add.u32 %r3, %r3, %r6;
    shfl.sync.bfly.b32 %r6, %r3, 8, 31, -1;
    add.u32 %r3, %r3, %r6;
    shfl.sync.bfly.b32 %r6, %r3, 4, 31, -1;
    add.u32 %r3, %r3, %r6;
    shfl.sync.bfly.b32 %r6, %r3, 2, 31, -1;
    add.u32 %r3, %r3, %r6;
    shfl.sync.bfly.b32 %r6, %r3, 1, 31, -1;
    add.u32 %r3, %r3, %r6;
    mov.u32 %r7, %tid.x;
    shr.u32 %r8, %r7, 5;
    mov.u32 %r9, halves;
    mad.lo.u32 %r10, %r8, 4, %r9;
    st.shared.u32 [%r10], %r3;
    bar.sync 0;
    setp.ne.u32 %p3, %r7, 0;
    @%p3 ret;
    ld.shared.u32 %r11, [halves];
    ld.shared.u32 %r12, [halves+4];
    add.u32 %r13, %r11, %r12;
    st.global.u32 [%d2], %r13;
    ret;
}}"""


def ran(engine: Any, kernel: Any, values: Array, count: int) -> int:
    memory = Memory.reserve(1 << 20)
    x, y = memory.put(values), memory.allocate(4)
    engine.run(Launch(kernel, (1, 1, 1), (64, 1, 1), argument([x, y, count], [8, 8, 4])), memory)
    return int(memory.get(y, np.uint32, 1)[0])


@each_target
def test_threads_part_meet_and_share(target: str) -> None:
    ptx = TOTAL.format(target=target)
    code = kernel_of(assemble(ptx, target), "total", target)
    values = np.random.default_rng(5).integers(0, 1 << 32, 333, np.uint64).astype(np.uint32)
    expected = int((values + 3 * values * (values & 1)).sum(dtype=np.uint32))
    for engine, kernel in ((PTX, parse(ptx).kernels["total"]), (SASS, code)):
        assert ran(engine, kernel, values, 333) == expected
    with pytest.raises(Fault, match=r"out of bounds .* \(machine code at 0x[0-9a-f]{4}: LDG"):
        ran(SASS, code, values, 400)


@each_target
def test_a_cubin_says_how_a_kernel_is_launched(target: str) -> None:
    cubin = assemble(TOTAL.format(target=target), target)
    assert kernel_names(cubin) == ("total",)
    found = layout(cubin, "total")
    assert [(p.size, p.offset) for p in found.parameters] == [(8, 0), (8, 8), (4, 16)]
    assert found.parameter_base == {"sm_80": 0x160, "sm_90": 0x210}[target]
    assert len(found.code) % 16 == 0 and found.code
    with pytest.raises(UsageError, match=r"no kernel 'other'; it has total"):
        layout(cubin, "other")


def test_what_is_no_cubin_is_refused() -> None:
    with pytest.raises(UsageError, match="this is no cubin"):
        sections(b"MZ" + bytes(64))
