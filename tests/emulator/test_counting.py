"""PTX that is executed and counted, beside the machine code that ptxas makes of it; known counts."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_programs import REGISTERS, THREAD, kernel, launch, memory

from precision_lab.emulator.control_flow import graph_of
from precision_lab.emulator.executed import Executed, executed
from precision_lab.emulator.machine_code import MachineInstruction, assemble, assemblers, listings, resources
from precision_lab.emulator.reference.counting import CountingEngine, sampled
from precision_lab.emulator.units import FP32, INTEGER, SPECIAL, unit_of

needs_ptxas = pytest.mark.skipif(not assemblers(), reason="no ptxas")

FMA = "ld.global.f32 %f1, [%d9]; fma.rn.f32 %f1, %f1, %f1, %f1; st.global.f32 [%d8], %f1;"
QUOTIENT = "ld.global.f32 %f1, [%d9]; div.rn.f32 %f2, 0f3F800000, %f1; st.global.f32 [%d8], %f2;"
# Five numbers one after the other; ptxas may take steps together, and the count must not depend on it.
LOOP = """
    mov.f32 %f2, 0f00000000;
    mov.u32 %r9, 0;
    ld.param.u32 %r8, [n];
AGAIN:
    NOUNROLL
    ld.global.f32 %f1, [%d9];
    fma.rn.f32 %f2, %f1, %f1, %f2;
    add.u64 %d9, %d9, 128;
    add.u32 %r9, %r9, 1;
    setp.lt.u32 %p1, %r9, %r8;
    @%p1 bra AGAIN;
    st.global.f32 [%d8], %f2;
"""


def kept(body: str) -> str:
    """The loop as it stands, one step at a time."""
    return body.replace("NOUNROLL", '.pragma "nounroll";')


def free(body: str) -> str:
    return body.replace("NOUNROLL", "")


# The same loop as LLVM lays some out: its end stands before its beginning, and falls through to it.
BACKWARDS = """
    mov.f32 %f2, 0f00000000;
    mov.u32 %r9, 0;
    ld.param.u32 %r8, [n];
    bra BODY;
NEXT:
    add.u32 %r9, %r9, 1;
    setp.ge.u32 %p1, %r9, %r8;
    @%p1 bra DONE;
BODY:
    NOUNROLL
    ld.global.f32 %f1, [%d9];
    fma.rn.f32 %f2, %f1, %f1, %f2;
    add.u64 %d9, %d9, 128;
    bra NEXT;
DONE:
    st.global.f32 [%d8], %f2;
"""
# Numbers beyond a thousand are rare.
RARE = """
    ld.global.f32 %f1, [%d9];
    setp.leu.f32 %p1, %f1, 0f447A0000;
    @%p1 bra USUAL;
    lg2.approx.f32 %f1, %f1;
    ld.global.f32 %f3, [%d8];
    fma.rn.f32 %f1, %f1, %f3, %f1;
    st.global.f32 [%d8], %f1;
    st.global.f32 [%d9], %f1;
    bra DONE;
USUAL:
    add.f32 %f1, %f1, 0f3F800000;
    st.global.f32 [%d8], %f1;
DONE:
"""


def counted(body: str, x: np.ndarray, *, blocks: int = 1, threads: int = 32, n: int = 5) -> CountingEngine:
    room, engine = memory(), CountingEngine()
    source, target = room.put(x), room.put(np.zeros_like(x))
    engine.run(launch(kernel(THREAD + body), source, target, n, blocks=blocks, threads=threads), room)
    return engine


def machine_code(body: str, options: tuple[str, ...] = ()) -> bytes:
    text = f"""
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{{
{REGISTERS}
{THREAD}
{body}
    ret;
}}
"""
    return assemble(text, "sm_90", options=options)


def cost(body: str, x: np.ndarray, **how: int) -> tuple[Executed, int]:
    """What a warp executes, and how many instructions the listing has before the last EXIT."""
    code = listings(machine_code(body))["k"]
    last = max(k for k, i in enumerate(code.instructions) if i.opcode == "EXIT")
    return executed(graph_of(code), counted(body, x, **how).evidence), last + 1


def opcodes(found: Executed, name: str) -> float:
    return sum(n for i, n in found.opcodes.items() if i.opcode == name)


def has(block: tuple[MachineInstruction, ...], name: str) -> bool:
    return any(i.opcode == name for i in block)


def by_unit(found: Executed) -> dict[str, float]:
    units: dict[str, float] = {}
    for i, count in found.opcodes.items():
        if taken := unit_of(i):
            units[taken[0]] = units.get(taken[0], 0.0) + taken[1] * count
    return units


NORMAL = np.random.default_rng(1).standard_normal(4096).astype(np.float32)


@needs_ptxas
def test_one_multiply_add_of_each_element() -> None:
    found, listed = cost(FMA, NORMAL, blocks=2, threads=64)
    assert found.least == found.most == found.longest == 4 * listed  # of four warps, each all of it
    assert by_unit(found)[FP32] == 4.0


@needs_ptxas
@pytest.mark.parametrize("body", [LOOP, BACKWARDS], ids=["a loop", "a loop laid out backwards"])
@pytest.mark.parametrize("trips", [1, 3, 5, 40])
def test_a_loop_of_known_trips(body: str, trips: int) -> None:
    once, _ = cost(kept(body), NORMAL, n=1)
    found, _ = cost(kept(body), NORMAL, n=trips)
    assert found.least == found.most == found.longest and found.unused == ()
    (loop,) = [b for b in graph_of(listings(machine_code(kept(body)))["k"]).blocks if has(b, "LDG")]
    assert found.most == pytest.approx(once.most + (trips - 1) * len(loop))
    assert [opcodes(found, name) for name in ("LDG", "FFMA", "STG")] == pytest.approx([trips, trips, 1])


@needs_ptxas
@pytest.mark.parametrize("trips", [1, 3, 5, 40])
def test_a_loop_that_the_assembler_takes_several_steps_of_at_once_costs_less(trips: int) -> None:
    one, _ = cost(kept(LOOP), NORMAL, n=trips)
    found, _ = cost(free(LOOP), NORMAL, n=trips)
    assert opcodes(found, "LDG") >= trips - 1e-6 and found.unused == ()  # some may have a predicate
    assert found.least <= found.most <= found.longest
    if trips == 40:
        assert found.most < one.least


@needs_ptxas
def test_a_slow_way_counts_where_inputs_take_it() -> None:
    usual, _ = cost(RARE, NORMAL)
    rare, _ = cost(RARE, np.full(4096, 2000, np.float32))
    both, _ = cost(RARE, np.where(np.arange(4096) % 2, NORMAL, 2000).astype(np.float32))
    assert by_unit(usual).get(SPECIAL, 0) == 0 and by_unit(rare)[SPECIAL] == 1 and by_unit(both)[SPECIAL] == 1
    assert usual.most < rare.least <= both.most
    assert usual.longest >= rare.most


@needs_ptxas
def test_registers_that_have_no_room_are_spilled_and_seen() -> None:
    loads = "\n".join(f"    ld.global.f32 %f{k}, [%d9+{4 * k}];" for k in range(32))
    more = ".reg .f32 %e<64>;\n" + "\n".join(
        f"    ld.global.f32 %e{k}, [%d9+{128 + 4 * k}];" for k in range(64)
    )
    uses = "\n".join(f"    st.global.f32 [%d8+{4 * k}], %f{31 - k};" for k in range(32))
    last = "\n".join(f"    st.global.f32 [%d8+{128 + 4 * k}], %e{63 - k};" for k in range(64))
    code = machine_code("\n".join((loads, more, "    bar.sync 0;", uses, last)), ("--maxrregcount=32",))
    opcodes = {i.opcode for i in listings(code)["k"].instructions}
    assert {"STL", "LDL"} <= opcodes and resources(code)["k"]["STACK"] > 0
    assert resources(code)["k"]["REG"] <= 32
    assert resources(machine_code(FMA))["k"]["STACK"] == 0


def test_loops_are_counted_by_ways_that_lead_back_and_not_by_where_they_stand() -> None:
    for body in (LOOP, BACKWARDS):
        evidence = counted(free(body), NORMAL).evidence
        assert (evidence.loops, evidence.branches_back) == (4.0, 1)
    assert counted(RARE, NORMAL).evidence.branches_back == 0


def test_a_warp_counts_where_one_of_its_threads_does() -> None:
    x = NORMAL.copy()
    x[40] = 2000.0  # a thread of the second warp
    evidence = counted(RARE, x, threads=64).evidence
    assert evidence.counts["functions", "LG2"] == 1.0 and evidence.divergent
    assert not counted(RARE, NORMAL, threads=64).evidence.divergent


def test_the_first_and_the_last_block_stand_for_themselves_and_others_for_those_between() -> None:
    blocks = sampled(1000, 1024)
    assert blocks[0] == 0 and blocks[-1] == 999 and 3 <= blocks.size <= 8
    assert sampled(2, 32).tolist() == [0, 1] and sampled(1, 32).tolist() == [0]
    skips = "    setp.eq.u32 %p1, %r1, 0;\n    @%p1 bra DONE;\n" + FMA + "\nDONE:\n"
    evidence = counted(skips, NORMAL, blocks=100).evidence
    assert evidence.warps == 100.0 and evidence.counts["loads", "4"] == pytest.approx(99.0)


def test_a_sector_is_moved_once() -> None:
    every = counted(FMA, NORMAL, blocks=128)
    assert (every.read, every.written) == (pytest.approx(4 * 4096), pytest.approx(4 * 4096))
    # All read one number, as a parameter behind a pointer; two blocks' results share no sector.
    one = (
        "ld.global.f32 %f1, [%d1]; mul.wide.u32 %d4, %r4, 2; add.u64 %d4, %d2, %d4; cvt.rn.f16.f32 %h1, %f1;"
    )
    engine = counted(one + "st.global.b16 [%d4], %h1;", NORMAL, blocks=128)
    assert engine.read == 32.0 and engine.written == pytest.approx(2 * 4096)


def test_where_an_instruction_goes() -> None:
    code = (
        {i.opcode: unit_of(i) for i in listings(machine_code(RARE))["k"].instructions} if assemblers() else {}
    )
    if not code:
        pytest.skip("no ptxas")
    assert code["FSETP"] == (INTEGER, 1) and code["MUFU"] == (SPECIAL, 1) and code["EXIT"] is None


@needs_ptxas
def test_a_quotient_of_ordinary_numbers_needs_no_slow_way() -> None:
    usual, _ = cost(QUOTIENT, NORMAL)
    assert usual.least == usual.most < usual.longest
    subnormal = NORMAL.copy()
    subnormal[7] = 1e-40
    rare, _ = cost(QUOTIENT, subnormal)
    assert rare.least == usual.least and rare.most == usual.longest
    assert counted(QUOTIENT, subnormal).evidence.rare == 1.0
