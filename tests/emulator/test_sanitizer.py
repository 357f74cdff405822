"""What is wrong with accesses and barriers is named, with the thread and the line; what is right is not."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_programs import THREAD, kernel, launch, memory

from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.emulator.reference.engine import ReferenceEngine

SHARED = ".shared .align 4 .b8 room[256];"
LINE = '.file 1 "kernels.py"'


def run(
    body: str, *, threads: int = 32, blocks: int = 1, elements: int = 64, unwritten: int = 0, before: str = ""
) -> np.ndarray:
    """y after a launch, of `elements` words; the last `unwritten` words of x are not written."""
    room = memory()
    x = room.put(np.arange(elements - unwritten, dtype=np.uint32))
    if unwritten:
        x = room.allocate(4 * elements)
        at = x - room.base
        room.data[at : at + 4 * (elements - unwritten)] = 0
        room.states[at : at + 4 * (elements - unwritten)] = 3
    y = room.put(np.zeros(elements, np.uint32))
    ReferenceEngine().run(
        launch(kernel(body, before=before), x, y, elements, blocks=blocks, threads=threads), room
    )
    return room.get(y, np.uint32, elements)


COPY = "ld.global.u32 %r10, [%d9]; st.global.u32 [%d8], %r10;"


def test_what_is_right_is_not_reported() -> None:
    assert run(THREAD + COPY, threads=64).tolist() == list(range(64))
    assert run(THREAD + COPY, threads=32, blocks=2).tolist() == list(range(64))


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ("ld.global.u32 %r10, [%d9]", "64"),
        ("st.global.u32 [%d8], %r4", "64"),
        ("st.global.u32 [%d8+-260], 1", "0"),
    ],
)
def test_one_element_too_far_is_out_of_bounds(access: str, words: str) -> None:
    """65 threads for 64 elements; or before the first one."""
    with pytest.raises(Fault, match="out of bounds") as caught:
        run(f"{THREAD} {access};", threads=65)
    assert caught.value.kind == "out_of_bounds"
    assert caught.value.thread == (int(words), 0, 0) and caught.value.block == (0, 0, 0)
    assert access.split()[0] in str(caught.value)


def test_the_first_byte_behind_an_allocation_is_outside() -> None:
    """An access that begins inside and ends outside."""
    with pytest.raises(Fault, match="out of bounds"):
        run(f"{THREAD} ld.global.u16 %h1, [%d1+254]; ld.global.u64 %d4, [%d1+256];", elements=64)
    with pytest.raises(Fault, match="out of bounds"):
        run("ld.param.u64 %d1, [x]; ld.global.u64 %d4, [%d1+248];", elements=63)


def test_an_address_of_nothing_is_outside() -> None:
    with pytest.raises(Fault, match="out of bounds"):
        run("mov.u64 %d1, 0; ld.global.u32 %r1, [%d1];")


@pytest.mark.parametrize("access", ["ld.global.u32 %r10, [%d1+2]", "st.global.v2.u32 [%d2+4], {%r3, %r3}"])
def test_a_misaligned_access_is_named(access: str) -> None:
    with pytest.raises(Fault, match="misaligned") as caught:
        run(f"{THREAD} {access};", threads=1)
    assert caught.value.kind == "misaligned"


def test_memory_that_nobody_wrote_is_not_read() -> None:
    with pytest.raises(Fault, match="nobody has written") as caught:
        run(THREAD + COPY, threads=64, unwritten=3)
    assert (caught.value.kind, caught.value.thread) == ("unwritten_read", (61, 0, 0))
    run(THREAD + COPY, threads=61, unwritten=3)


def test_shared_memory_is_bounded_and_unwritten_at_first() -> None:
    with pytest.raises(Fault, match="out of bounds"):
        run(f"{SHARED} mov.u32 %r5, room; st.shared.u32 [%r5+256], 1;", threads=1)
    with pytest.raises(Fault, match="nobody has written"):
        run(f"{SHARED} mov.u32 %r5, room; ld.shared.u32 %r6, [%r5];", threads=1)


def test_the_line_of_source_is_told() -> None:
    with pytest.raises(Fault, match=r"at kernels\.py:12 \(PTX line \d+: ld\.global\.u32"):
        run(f"{THREAD} .loc 1 12 5\n ld.global.u32 %r10, [%d9+4096];", before=LINE)


# -- order between threads --------------------------------------------------------------------------


def test_two_threads_that_store_different_values_to_one_place_race() -> None:
    with pytest.raises(Fault, match="no order between") as caught:
        run(f"{THREAD} st.global.u32 [%d2], %r3;", threads=64)
    assert caught.value.kind == "race"


def test_two_blocks_that_store_different_values_to_one_place_race() -> None:
    with pytest.raises(Fault, match="no order between"):
        run(f"{THREAD} st.global.u32 [%d2], %r1;", threads=32, blocks=2)


def test_blocks_of_different_batches_race_too() -> None:
    """A batch holds 2^15 lanes, 32 blocks of 1024."""
    one_of_32 = "and.b32 %r5, %r1, 31; or.b32 %r5, %r5, %r3; setp.ne.u32 %p1, %r5, 0; @%p1 bra end;"
    body = f"{THREAD} {one_of_32} st.global.u32 [%d2], %r1; end:"
    run(body, threads=1024, blocks=32)
    with pytest.raises(Fault, match="one of another block"):
        run(body, threads=1024, blocks=33)


def test_equal_values_to_one_place_do_no_harm() -> None:
    assert run(f"{THREAD} st.global.u32 [%d2], 7;", threads=64)[0] == 7


def test_a_barrier_puts_two_stores_in_order() -> None:
    store = "setp.eq.u32 %p1, %r3, 0; @%p1 st.global.u32 [%d2], 1;"
    then = "setp.eq.u32 %p2, %r3, 63; @%p2 st.global.u32 [%d2], 2;"
    assert run(f"{THREAD} {store} bar.sync 0; {then}", threads=64)[0] == 2
    with pytest.raises(Fault, match="no order between"):
        run(f"{THREAD} {store} {then}", threads=64)


EXCHANGE = """
    mov.u32 %r5, room;
    shl.b32 %r6, %r3, 2;
    add.u32 %r7, %r5, %r6;
    st.shared.u32 [%r7], %r3;
    {}
    xor.b32 %r8, %r6, 252;
    add.u32 %r9, %r5, %r8;
    ld.shared.u32 %r10, [%r9];
    st.global.u32 [%d8], %r10;
"""


def test_a_missing_barrier_before_a_load_of_shared_memory_is_a_race() -> None:
    good = run(SHARED + THREAD + EXCHANGE.format("bar.sync 0;"), threads=64)
    assert good.tolist() == list(range(63, -1, -1))
    with pytest.raises(Fault, match="no barrier between") as caught:
        run(SHARED + THREAD + EXCHANGE.format(""), threads=64)
    assert caught.value.kind == "race"
    # A warp's own barrier orders the 32 threads of it, no others.
    with pytest.raises(Fault, match="no barrier between"):
        run(SHARED + THREAD + EXCHANGE.format("bar.warp.sync -1;"), threads=64)


def test_atomics_do_not_race() -> None:
    assert run(f"{THREAD} red.global.add.u32 [%d2], %r3;", threads=64)[0] == sum(range(64))


# -- barriers ---------------------------------------------------------------------------------------


def test_a_barrier_that_some_threads_skip_is_named() -> None:
    with pytest.raises(Fault, match="a part of the block") as caught:
        run(f"{THREAD} setp.lt.u32 %p1, %r3, 40; @%p1 bra away; bar.sync 0; away:", threads=64)
    assert caught.value.kind == "divergent_barrier"


def test_a_barrier_in_both_branches_is_not_one_barrier() -> None:
    body = "setp.lt.u32 %p1, %r3, 40; @%p1 bra other; bar.sync 0; bra end; other: bar.sync 0; end:"
    with pytest.raises(Fault, match="a part of the block"):
        run(THREAD + body, threads=64)


def test_threads_that_wait_go_on_together() -> None:
    """One half takes a longer way to the same barrier."""
    body = """
        mov.u32 %r20, 0; setp.lt.u32 %p1, %r3, 32; @%p1 bra meet;
        again: add.u32 %r20, %r20, 1; setp.lt.u32 %p2, %r20, 5; @%p2 bra again;
        meet: bar.sync 0; st.global.u32 [%d8], %r20;
    """
    assert run(THREAD + body, threads=64).tolist() == [0] * 32 + [5] * 32


def test_a_shuffle_without_all_that_it_names_is_named() -> None:
    body = "setp.lt.u32 %p1, %r3, 16; @%p1 shfl.sync.bfly.b32 %r5, %r3, 1, 31, {};"
    run(THREAD + body.format("0xffff"))
    with pytest.raises(Fault, match="not there with it") as caught:
        run(THREAD + body.format("-1"))
    assert caught.value.kind == "divergent_barrier"


def test_an_endless_loop_ends() -> None:
    room = memory()
    x = room.put(np.zeros(4, np.uint32))
    endless = launch(kernel("forever: bra forever;"), x, x, 1, step_limit=1000)
    with pytest.raises(Fault, match="no end after 1000 instructions") as caught:
        ReferenceEngine().run(endless, room)
    assert caught.value.kind == "endless_loop"


@pytest.mark.parametrize(
    "line",
    [
        "wgmma.fence.sync.aligned;", "cp.async.ca.shared.global [%r1], [%d1], 4;", "bar.arrive 0, 64;",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r2}, {%f2};",
        "add.rm.f16 %h1, %h2, %h3;", "cvt.rs.bf16x2.f32 %r1, %f1, %f2, %r2;", "add.odd.f32 %f1, %f2, %f3;",
        "tex.1d.v4.f32.s32 {%f1,%f2,%f3,%f4}, [%d1, {%r1}];", "call foo;", "mapa.u64 %d1, %d2, %r1;",
        "ld.shared::cluster.u32 %r1, [%r2];", "brkpt;", "dp4a.u32.u32 %r1, %r2, %r3, %r4;",
    ],
)  # fmt: skip
def test_what_is_not_emulated_is_refused_by_name(line: str) -> None:
    """Nothing is passed over: neither an instruction nor a modifier."""
    with pytest.raises(Unsupported) as caught:
        run(line)
    name = line.split()[0].rstrip(";")
    assert caught.value.kind == "unsupported_instruction"
    assert name in str(caught.value) or name.split(".")[0] in str(caught.value)
