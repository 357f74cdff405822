"""The fast engine beside its instructions: memory, threads, faults, choices at run time, code on disk."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_instruction import each_engine, run

from precision_lab.emulator import nominal
from precision_lab.emulator.fast import machine
from precision_lab.emulator.fast.engine import FastEngine
from precision_lab.emulator.fast.translate import translated
from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.emulator.launch import Choice, Engine, Launch, argument
from precision_lab.emulator.memory import ALLOCATED, Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel

Array = np.ndarray[Any, Any]
ENGINE = FastEngine()


def kernel(body: str, *, before: str = "") -> Kernel:
    """Of two pointers x and y and a number n; %px and %py point to the elements of a thread, number %i."""
    return parse(f"""
.version 9.0
.target sm_90
.address_size 64
{before}
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{{
    .reg .pred %p<4>; .reg .b16 %h<8>; .reg .b32 %r<16>; .reg .b64 %d<16>;
    .reg .b32 %i; .reg .b64 %px, %py, %x, %y;
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.u32 %i, %r1, %r2, %r3;
    ld.param.u64 %x, [x]; ld.param.u64 %y, [y];
    mad.wide.u32 %px, %i, 4, %x; mad.wide.u32 %py, %i, 4, %y;
    {body}
    ret;
}}""").kernels["k"]


def launched(
    engine: Engine, body: str, x: Array, *, blocks: int = 1, threads: int = 32, results: int = 0,
    before: str = "", **more: Any,
) -> Array:  # fmt: skip
    """y, of as many words as there are threads, all 0 at first."""
    memory = Memory.reserve(1 << 24)
    at, count = memory.put(x), results or blocks * threads
    to = memory.put(np.zeros(count, np.uint32))
    values = argument([at, to, x.size], [8, 8, 4])
    engine.run(Launch(kernel(body, before=before), (blocks, 1, 1), (threads, 1, 1), values, **more), memory)
    return memory.get(to, np.uint32, count)


WORDS = np.arange(1, 257, dtype=np.uint32) * np.uint32(0x01234567)

# -- loads and stores ------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("size", [2, 4, 8])
def test_vectors_are_words_side_by_side(engine: Engine, size: int) -> None:
    names = ", ".join(f"%r{k}" for k in range(4, 4 + size))
    body = (
        f"mad.wide.u32 %px, %i, {4 * size}, %x; mad.wide.u32 %py, %i, {4 * size}, %y;"
        f"ld.global.nc.L1::evict_last.v{size}.b32 {{{names}}}, [%px];"
        f"st.global.v{size}.b32 [%py], {{{names}}};"
    )
    assert launched(engine, body, WORDS, threads=256 // size, results=256).tolist() == WORDS.tolist()


@each_engine
def test_narrow_loads_fill_a_register_with_zeros_or_the_sign(engine: Engine) -> None:
    bytes_ = WORDS.view(np.uint8)
    for kind, dtype in (("u8", np.uint8), ("s8", np.int8), ("b8", np.uint8)):
        place = "cvt.u64.u32 %d1, %i; add.u64 %px, %x, %d1;"
        body = f"{place} ld.global.{kind} %r4, [%px]; st.global.b32 [%py], %r4;"
        got = launched(engine, body, WORDS, threads=256)
        assert got.tolist() == bytes_[:256].view(dtype).astype(np.int64).astype(np.uint32).tolist()
    for kind, half in (("u16", np.uint16), ("s16", np.int16)):
        body = f"mad.wide.u32 %px, %i, 2, %x; ld.global.{kind} %r4, [%px]; st.global.b32 [%py], %r4;"
        got = launched(engine, body, WORDS, threads=256)
        assert got.tolist() == WORDS.view(half)[:256].astype(np.int64).astype(np.uint32).tolist()


@each_engine
def test_a_narrow_store_leaves_its_neighbours(engine: Engine) -> None:
    got = launched(engine, "ld.global.u32 %r4, [%px]; st.global.b8 [%py+1], %r4;", WORDS)
    assert got.tolist() == [(int(w) & 0xFF) << 8 for w in WORDS[:32]]


@each_engine
def test_an_access_whose_guard_does_not_hold_is_not_made(engine: Engine) -> None:
    body = (
        "setp.lt.u32 %p1, %i, 8; mov.u32 %r4, 7;"
        "@%p1 ld.global.u32 %r4, [%px]; @!%p1 st.global.u32 [%py], %r4;"
    )
    assert launched(engine, body, WORDS[:8]).tolist() == [0] * 8 + [7] * 24


@each_engine
@pytest.mark.parametrize(
    "hint", ["volatile.global", "relaxed.gpu.global", "global.ca", "global.L1::no_allocate.L2::128B", "weak"]
)
def test_hints_change_nothing(engine: Engine, hint: str) -> None:
    got = launched(engine, f"ld.{hint}.u32 %r4, [%px]; st.global.u32 [%py], %r4;", WORDS)
    assert got.tolist() == WORDS[:32].tolist()


@each_engine
def test_addresses_have_offsets_and_may_be_generic(engine: Engine) -> None:
    body = "cvta.to.global.u64 %d1, %px; ld.u32 %r4, [%d1+4]; cvta.global.u64 %d2, %py; st.u32 [%d2+0], %r4;"
    assert launched(engine, body, WORDS).tolist() == WORDS[1:33].tolist()


LOCAL = ".local .align 8 .b8 room[16];"


@each_engine
def test_local_memory_is_each_threads_own(engine: Engine) -> None:
    body = (
        "mov.u64 %d1, room; cvta.local.u64 %d2, %d1; st.local.u32 [room+4], %i; add.u64 %d3, %d2, 4;"
        "ld.u32 %r4, [%d3]; st.global.u32 [%py], %r4;"
    )
    assert launched(engine, LOCAL + body, WORDS, blocks=3).tolist() == list(range(96))


@each_engine
def test_local_memory_is_not_what_the_thread_before_has_written(engine: Engine) -> None:
    body = "setp.ne.u32 %p1, %i, 5; @%p1 st.local.u32 [room], %i; ld.local.u32 %r4, [room];"
    with pytest.raises(Fault) as caught:
        launched(engine, LOCAL + body, WORDS)
    assert (caught.value.kind, caught.value.thread) == ("unwritten_read", (5, 0, 0))


@each_engine
def test_variables_hold_what_they_begin_with(engine: Engine) -> None:
    before = ".global .align 4 .u32 table[4] = {3, 1, 4, 1};\n.const .align 4 .b8 bytes[4] = {1, 2, 3, 4};"
    body = (
        "mov.u64 %d1, table; and.b32 %r4, %i, 3; mad.wide.u32 %d2, %r4, 4, %d1; ld.global.u32 %r5, [%d2];"
        "ld.const.u32 %r6, [bytes]; add.u32 %r7, %r5, %r6; st.global.u32 [%py], %r7;"
    )
    assert launched(engine, body, WORDS, before=before).tolist() == [v + 0x04030201 for v in (3, 1, 4, 1)] * 8


# -- threads and control ---------------------------------------------------------------------------


@each_engine
def test_threads_know_their_place_in_three_dimensions(engine: Engine) -> None:
    names = [
        "tid.x",
        "tid.y",
        "tid.z",
        "ctaid.x",
        "ctaid.y",
        "ctaid.z",
        "ntid.y",
        "nctaid.z",
        "laneid",
        "warpid",
    ]
    moves = "".join(
        f"mov.u32 %r{k + 1}, %{n}; st.global.u32 [%d4+{4 * k}], %r{k + 1};" for k, n in enumerate(names)
    )
    text = f"""
.version 9.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y)
{{
    .reg .b32 %r<16>, %s<16>; .reg .b64 %d<8>;
    mov.u32 %s1, %tid.x; mov.u32 %s2, %tid.y; mov.u32 %s3, %tid.z; mov.u32 %s4, %ntid.x; mov.u32 %s5, %ntid.y;
    mad.lo.u32 %s6, %s3, %s5, %s2; mad.lo.u32 %s6, %s6, %s4, %s1;
    mov.u32 %s7, %ctaid.x; mov.u32 %s8, %ctaid.y; mov.u32 %s9, %ctaid.z; mov.u32 %s10, %nctaid.x;
    mov.u32 %s11, %nctaid.y; mad.lo.u32 %s12, %s9, %s11, %s8; mad.lo.u32 %s12, %s12, %s10, %s7;
    mov.u32 %s13, %ntid.z; mul.lo.u32 %s4, %s4, %s5; mul.lo.u32 %s4, %s4, %s13;
    mad.lo.u32 %s6, %s12, %s4, %s6;
    ld.param.u64 %d1, [y]; mad.wide.u32 %d4, %s6, {4 * len(names)}, %d1;
    {moves}
    ret;
}}"""
    grid, block = (3, 2, 5), (4, 3, 6)
    memory = Memory.reserve(1 << 24)
    count = 30 * 72
    to = memory.allocate(4 * count * len(names))
    engine.run(Launch(parse(text).kernels["k"], grid, block, argument([to], [8])), memory)
    got = memory.get(to, np.uint32, count * len(names)).reshape(count, -1)
    expected = []
    for number in range(count):
        b, t = divmod(number, 72)
        expected.append([t % 4, t // 4 % 3, t // 12, b % 3, b // 3 % 2, b // 6, 3, 5, t % 32, t // 32])
    assert got.tolist() == expected


LOOP = "mov.u32 %r4, 0; mov.u32 %r5, 0; again: add.u32 %r4, %r4, %r5; add.u32 %r5, %r5, 1;"


@each_engine
def test_loops_and_early_returns(engine: Engine) -> None:
    body = (
        LOOP
        + "setp.le.u32 %p1, %r5, %i; @%p1 bra again; setp.eq.u32 %p2, %i, 9; @%p2 exit;"
        + "st.global.u32 [%py], %r4;"
    )
    expected = [i * (i + 1) // 2 for i in range(32)]
    expected[9] = 0
    assert launched(engine, body, WORDS).tolist() == expected


@each_engine
def test_a_loop_without_end_is_a_fault_of_the_first_thread_in_it(engine: Engine) -> None:
    body = LOOP + "setp.ge.u32 %p1, %i, 7; @%p1 bra again;"
    with pytest.raises(Fault) as caught:
        launched(engine, body, WORDS, step_limit=1000)
    assert caught.value.kind == "endless_loop"
    assert caught.value.thread == (7, 0, 0)


def test_registers_of_one_thread_are_0_for_the_next() -> None:
    body = "setp.eq.u32 %p1, %i, 0; @%p1 mov.u32 %r9, 5; st.global.u32 [%py], %r9;"
    assert launched(ENGINE, body, WORDS).tolist() == [5] + [0] * 31


def test_any_number_of_cores_gives_the_same() -> None:
    body = "ld.global.u32 %r4, [%px]; mul.lo.u32 %r4, %r4, 17; st.global.u32 [%py], %r4;"
    x = np.arange(96 * 32, dtype=np.uint32)
    found = [launched(FastEngine(n), body, x, blocks=96).tolist() for n in (1, 2, 5)]
    assert found[0] == found[1] == found[2] == (x * 17).tolist()


# What the thread's neighbour, the block's last for its first, has stored before the barrier.
NEIGHBOURS = """
    st.global.u32 [%py], %i; mov.u32 %r9, %r3; bar.sync 0;
    mad.lo.u32 %r4, %r3, 1, 1; rem.u32 %r4, %r4, %r2; mad.lo.u32 %r4, %r1, %r2, %r4;
    mad.wide.u32 %d1, %r4, 4, %y; ld.global.u32 %r5, [%d1]; barrier.sync.aligned 1;
    add.u32 %r5, %r5, %r9; st.global.u32 [%py], %r5;
"""


@each_engine
def test_at_a_barrier_all_threads_of_a_block_wait_for_one_another(engine: Engine) -> None:
    got = launched(engine, NEIGHBOURS, WORDS, blocks=3, threads=96)
    assert got.tolist() == [b * 96 + (t + 1) % 96 + t for b in range(3) for t in range(96)]


@each_engine
def test_a_barrier_in_a_loop(engine: Engine) -> None:
    """A sum along the block, doubling the distance: each turn reads what others stored in the one before."""
    body = """
    mov.u32 %r4, 1; st.global.u32 [%py], %r3; bar.sync 0;
    again: setp.ge.u32 %p1, %r3, %r4; mov.u32 %r6, 0; sub.u32 %r5, %r3, %r4; mad.wide.u32 %d1, %r5, 4, %y;
    @%p1 ld.global.u32 %r6, [%d1]; ld.global.u32 %r7, [%py]; bar.sync 0;
    add.u32 %r7, %r7, %r6; st.global.u32 [%py], %r7; bar.sync 0;
    shl.b32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, %r2; @%p2 bra again;
    """
    assert launched(engine, body, WORDS, threads=64).tolist() == np.cumsum(np.arange(64)).tolist()


@each_engine
@pytest.mark.parametrize(
    "body",
    ["setp.ge.u32 %p1, %r3, 5; @%p1 bar.sync 0;", "setp.eq.u32 %p1, %r3, 9; @%p1 exit; bar.sync 0;",
     "setp.ge.u32 %p1, %r3, 5; @%p1 bra b; bar.sync 0; bra c; b: bar.sync 0; c: mov.u32 %r4, 0;"],
)  # fmt: skip
def test_a_barrier_that_some_threads_never_reach_is_a_fault(engine: Engine, body: str) -> None:
    with pytest.raises(Fault, match=r"bar\.sync") as caught:
        launched(engine, body, WORDS, blocks=2)
    assert caught.value.kind == "divergent_barrier"
    assert caught.value.block == (0, 0, 0)


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "first", "words"),
    [
        ("ld.global.u32 %r4, [%px];", 20, "reads 4 bytes"),
        ("ld.global.b8 %r4, [%px];", 20, "reads 1 byte out"),
        ("st.global.u32 [%px], %i;", 20, "writes 4 bytes"),
        ("ld.global.u32 %r4, [%px+-4];", 0, "just before"),
        ("ld.global.u32 %r4, [16];", 0, "outside of the device's memory"),
    ],
)
def test_one_element_too_far_is_out_of_bounds(line: str, first: int, words: str) -> None:
    with pytest.raises(Fault, match=words) as caught:
        launched(ENGINE, line, WORDS[:20])
    fault = caught.value
    assert (fault.kind, fault.thread) == ("out_of_bounds", (first, 0, 0))
    assert "PTX line" in str(fault) and line.split()[0] in str(fault)


@each_engine
def test_a_fault_says_where_from_the_allocation_and_says_so_in_every_run(engine: Engine) -> None:
    """No address stands in it: those are others each time."""
    for line, words in (
        ("ld.global.u32 %r4, [%x+80];", "just behind an allocation"),
        ("ld.global.u32 %r4, [%x+-8];", "4 bytes before an allocation"),
        ("ld.global.u32 %r4, [%x+6];", "byte 6 of an allocation of 80"),
    ):
        messages = set()
        for _ in range(2):
            with pytest.raises(Fault, match=words) as caught:
                launched(engine, line, WORDS[:20])
            messages.add(str(caught.value))
        assert len(messages) == 1 and "0x" not in messages.pop()


def test_an_access_half_outside_is_outside() -> None:
    body = "mad.wide.u32 %d1, %i, 8, %x; ld.global.b64 %d2, [%d1];"
    with pytest.raises(Fault, match="4 lie outside of an allocation") as caught:
        launched(ENGINE, body, WORDS[:21], threads=11)
    assert (caught.value.kind, caught.value.thread) == ("out_of_bounds", (10, 0, 0))


@each_engine
def test_misaligned_accesses_are_faults(engine: Engine) -> None:
    for body in (
        "ld.global.u32 %r4, [%x+2];",
        "ld.global.v2.u32 {%r4, %r5}, [%x+4];",
        "st.global.b16 [%y+1], %h1;",
    ):
        with pytest.raises(Fault) as caught:
            launched(engine, body, WORDS)
        assert caught.value.kind == "misaligned"


@each_engine
def test_what_nobody_has_written_is_not_read(engine: Engine) -> None:
    memory = Memory.reserve(1 << 24)
    x = memory.put(WORDS)
    memory.states[x - memory.base + 83] = ALLOCATED  # one byte of element 20
    y = memory.allocate(4 * 32)
    found = kernel("ld.global.u32 %r4, [%px]; st.global.u32 [%py], %r4;")
    with pytest.raises(Fault) as caught:
        engine.run(Launch(found, (1, 1, 1), (32, 1, 1), argument([x, y, 0], [8, 8, 4])), memory)
    assert (caught.value.kind, caught.value.thread) == ("unwritten_read", (20, 0, 0))


def test_what_a_thread_stores_it_may_read() -> None:
    memory = Memory.reserve(1 << 24)
    y = memory.allocate(4 * 32)
    found = kernel(
        "st.global.u32 [%py], %i; ld.global.u32 %r4, [%py]; add.u32 %r4, %r4, 1; st.global.u32 [%py], %r4;"
    )
    ENGINE.run(Launch(found, (1, 1, 1), (32, 1, 1), argument([y, y, 0], [8, 8, 4])), memory)
    assert memory.get(y, np.uint32, 32).tolist() == list(range(1, 33))
    assert memory.is_written(y, 4 * 32) and not memory.is_written(y, 4 * 32 + 1)


def test_the_fault_is_that_of_the_first_block_and_thread_on_any_number_of_cores() -> None:
    """Threads 37·k of every block from the third on read too far."""
    body = (
        "rem.u32 %r5, %r3, 37; setp.eq.u32 %p1, %r5, 36; setp.ge.u32 %p2, %r1, 3; and.pred %p1, %p1, %p2;"
        "@%p1 ld.global.u32 %r4, [%y+-4];"
    )
    for cores in (1, 2, 7):
        for _ in range(5):
            with pytest.raises(Fault) as caught:
                launched(FastEngine(cores), body, WORDS, blocks=200, threads=128)
            assert (caught.value.block, caught.value.thread) == ((3, 0, 0), (36, 0, 0))


@pytest.mark.parametrize(
    "line",
    [
        "bar.sync 0, 64;", "bar.arrive 0, 64;", "membar.gl;",
        "shfl.sync.bfly.b32 %r4, %r5, 1, 31, -1;", "atom.global.add.u32 %r4, [%px], 1;",
        "vote.sync.any.pred %p1, %p2, -1;", "red.global.add.u32 [%px], 1;", "st.shared.u32 [%d1], %r4;",
        "ld.global.u32.v2 {%r4, %r5}, [%px];", "ld.global.L1::wrong.u32 %r4, [%px];",
        "ld.global.f16 %h1, [%px];",
    ],
)  # fmt: skip
def test_what_is_not_executed_is_refused_before_anything_is_stored(line: str) -> None:
    memory = Memory.reserve(1 << 24)
    y = memory.put(np.zeros(32, np.uint32))
    found = kernel(f"st.global.u32 [%py], 1; {line}")
    with pytest.raises(Unsupported, match=line.split()[0].rstrip(";").replace(".", r"\.")):
        ENGINE.run(Launch(found, (1, 1, 1), (32, 1, 1), argument([y, y, 0], [8, 8, 4])), memory)
    assert not memory.get(y, np.uint32, 32).any()


def test_shared_memory_that_nobody_uses_is_no_obstacle() -> None:
    """Triton declares some in every module."""
    before = ".extern .shared .align 16 .b8 global_smem[];"
    assert launched(ENGINE, "st.global.u32 [%py], %i;", WORDS, before=before).tolist() == list(range(32))
    with pytest.raises(Unsupported, match="global_smem"):
        launched(ENGINE, "mov.u64 %d1, global_smem;", WORDS, before=before)


# -- approximate instructions ----------------------------------------------------------------------

MODEL = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int32)
MODEL_OF_TWO = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int32)


def test_a_model_is_asked_with_the_bits_and_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    one = MODEL(lambda bits, moved: (bits * 3 + moved) & 0xFFFFFFFF)
    two = MODEL_OF_TWO(lambda a, b, moved: (a * 5 + b + moved) & 0xFFFFFFFF)

    def address(operation: str, ftz: bool) -> int:
        asked.append((operation, ftz))
        return ctypes.cast(two if operation.startswith("div") else one, ctypes.c_void_p).value or 0

    monkeypatch.setattr(nominal, "address", address)
    a, b = WORDS, WORDS[::-1].copy()
    lines = (
        "ex2.approx.f32 %r, %a; tanh.approx.bf16x2 %s, %a; div.full.ftz.f32 %t, %a, %b;"
        ".reg .b16 %h, %g; .reg .b32 %w; cvt.u16.u32 %h, %b; ex2.approx.f16 %g, %h;"
    )
    r, s, t = run(ENGINE, lines, [a, b], "b32", "b32", "b32")
    assert asked == [
        ("ex2.approx.f32", False),
        ("tanh.approx.bf16", False),
        ("div.full.f32", True),
        ("ex2.approx.f16", False),
    ]
    wide = a.astype(np.uint64)
    assert r.tolist() == (wide * 3 % 2**32).tolist()
    assert s.tolist() == [(v & 0xFFFF) * 3 % 2**16 | (v >> 16) * 3 % 2**16 << 16 for v in a.tolist()]
    assert t.tolist() == [(p * 5 + q) % 2**32 for p, q in zip(a.tolist(), b.tolist(), strict=True)]


def test_another_choice_needs_no_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODEL(lambda bits, moved: (bits + moved) & 0xFFFFFFFF)
    monkeypatch.setattr(nominal, "address", lambda *_: ctypes.cast(model, ctypes.c_void_p).value)
    found = kernel("ld.global.u32 %r4, [%px]; ex2.approx.f32 %r5, %r4; st.global.u32 [%py], %r5;")
    index = next(k for k, i in enumerate(found.instructions) if i.opcode == "ex2")
    memory = Memory.reserve(1 << 24)
    x, y = memory.put(WORDS[:32]), memory.allocate(128)
    made = []
    for moved in ({}, {index: 2}, {index: -1}, {index - 1: 7}):
        ENGINE.run(
            Launch(found, (1, 1, 1), (32, 1, 1), argument([x, y, 0], [8, 8, 4]), choice=Choice(moved)), memory
        )
        difference = memory.get(y, np.uint32, 32).astype(np.int64) - WORDS[:32]
        assert set(difference.tolist()) == {moved.get(index, 0)}
        made.append(found)
        monkeypatch.setattr(machine, "_loaded", lambda text: pytest.fail("compiled again"))


# -- code on disk ----------------------------------------------------------------------------------


def test_code_is_taken_from_disk_and_made_anew_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))
    program = translated(kernel("add.u32 %r4, %i, 5; st.global.u32 [%py], %r4;"))
    machine.Code(program)
    (kept,) = (tmp_path / "kernels").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    machine.Code(program)
    assert kept.read_bytes() == content
    monkeypatch.setattr(machine.llvm, "create_pass_builder", lambda *_: pytest.fail("compiled again"))
    machine.Code(program)


def test_products_and_sums_are_not_contracted_in_the_code() -> None:
    """Nothing in the text allows it: no fast-math flag, no "contract"."""
    text = translated(kernel(
        ".reg .f32 %f<4>; ld.global.f32 %f1, [%px]; mul.f32 %f2, %f1, %f1; add.f32 %f3, %f2, %f1;"
        "st.global.f32 [%py], %f3;"
    )).text  # fmt: skip
    assert "fmul float" in text and "fadd float" in text
    assert not any(flag in text for flag in ("fast", "contract", "reassoc", "nnan", "nsz", "llvm.fmuladd"))
