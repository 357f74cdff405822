"""Which approximate instructions a stored number depends on: never too few."""

from __future__ import annotations

import pytest
from ptx_programs import THREAD, kernel

from precision_lab.emulator.influence import influence, operation

LOAD = "ld.global.f32 %f1, [%d9]; ld.global.f32 %f2, [%d9+4];"


def colours(body: str) -> list[int]:
    """Of the approximate instructions, in order; −1 where nothing stored depends on one."""
    found = kernel(THREAD + LOAD + body)
    sites = [k for k, i in enumerate(found.instructions) if "approx" in i.modifiers]
    known = influence(found).colours
    return [known.get(site, -1) for site in sites]


def test_elements_of_one_thread_are_chosen_together() -> None:
    body = """
        ex2.approx.f32 %f3, %f1; ex2.approx.f32 %f4, %f2;
        st.global.f32 [%d8], %f3; st.global.f32 [%d8+4], %f4;
    """
    assert colours(body) == [0, 0]
    assert colours(body.replace("%f4, %f2", "%f4, %f3")) == [0, 1]


def test_what_nothing_stored_depends_on_has_no_choice() -> None:
    assert colours("ex2.approx.f32 %f3, %f1; lg2.approx.f32 %f4, %f1; st.global.f32 [%d8], %f4;") == [-1, 0]


def test_halves_of_a_packed_pair_are_apart() -> None:
    pack = """
        ex2.approx.f32 %f3, %f1; ex2.approx.f32 %f4, %f2;
        cvt.rn.bf16x2.f32 %r10, %f4, %f3;
        {} st.global.u32 [%d8], %r10;
    """
    assert colours(pack.format("")) == [0, 0]
    # A shift may bring the one where the other was.
    assert colours(pack.format("shr.u32 %r11, %r10, 8; or.b32 %r10, %r10, %r11;")) == [0, 1]
    taken_apart = pack.format(
        "mov.b32 {%h1, %h2}, %r10; add.rn.bf16 %h1, %h1, %h1; mov.b32 %r10, {%h1, %h2};"
    )
    assert colours(taken_apart) == [0, 0]


@pytest.mark.parametrize(
    "use",
    [
        "setp.gt.f32 %p1, %f3, 0f00000000; selp.f32 %f4, %f1, %f2, %p1; st.global.f32 [%d8], %f4;",
        "setp.gt.f32 %p1, %f3, 0f00000000; mov.f32 %f4, %f1; @%p1 mov.f32 %f4, %f2; st.global.f32 [%d8],%f4;",
        "setp.gt.f32 %p1, %f3, 0f00000000; @%p1 st.global.f32 [%d8], %f1;",
        "setp.gt.f32 %p1, %f3, 0f00000000; @%p1 bra other; st.global.f32 [%d8], %f1; other:",
        "cvt.rzi.s32.f32 %r9, %f3; mul.wide.s32 %d5, %r9, 4; add.s64 %d6, %d8, %d5; st.global.f32 [%d6],%f1;",
    ],
    ids=["selected", "guarded", "stored or not", "branched", "where"],
)
def test_deciding_is_influence(use: str) -> None:
    """A number that is chosen, stored or placed by an approximate result depends on it."""
    assert colours(f"ex2.approx.f32 %f3, %f1; {use}") == [0]


def test_a_loops_last_turn_reaches_its_first() -> None:
    body = """
        mov.f32 %f5, %f1; mov.u32 %r10, 0;
        again: add.f32 %f6, %f5, %f2; ex2.approx.f32 %f5, %f6;
        add.u32 %r10, %r10, 1; setp.lt.u32 %p1, %r10, 3; @%p1 bra again;
        st.global.f32 [%d8], %f6;
    """
    found = influence(kernel(THREAD + LOAD + body))
    assert list(found.colours.values()) == [0]
    assert found.obstacles == {"y": "ex2.approx.f32 is executed in a loop"}


@pytest.mark.parametrize(
    "cross",
    [
        "mov.b32 %r10, %f3; shfl.sync.bfly.b32 %r11, %r10, 1, 31, -1; st.global.u32 [%d8], %r11;",
        "mov.b32 %r10, %f3; redux.sync.add.u32 %r11, %r10, -1; st.global.u32 [%d8], %r11;",
        "red.global.add.f32 [%d2], %f3;",
        ".shared .b8 s[4]; st.shared.f32 [s], %f3; bar.sync 0; ld.shared.f32 %f4, [s]; st.global.f32 [%d8],%f4;",
    ],
    ids=["shuffle", "reduction", "atomic", "shared memory"],
)
def test_what_threads_combine_cannot_be_chosen_for_all_at_once(cross: str) -> None:
    found = influence(kernel(f"{THREAD} {LOAD} ex2.approx.f32 %f3, %f1; {cross}"))
    assert found.obstacles == {"y": "threads combine approximate results"}
    # What is combined without any approximate result has nothing to choose.
    assert not influence(kernel(f"{THREAD} {LOAD} mov.f32 %f3, %f1; {cross}")).obstacles


def test_an_obstacle_is_that_of_the_memory_it_leads_to() -> None:
    body = "ex2.approx.f32 %f3, %f1; st.global.f32 [%d8], %f3; red.global.add.f32 [%d1], %f3;"
    found = influence(kernel(THREAD + LOAD + body))
    assert set(found.obstacles) == {"x"} and found.stores == {"x", "y"} and found.loads == {"x"}


def test_names_are_those_of_the_models() -> None:
    found = kernel(
        "ex2.approx.ftz.bf16x2 %r1, %r2; div.full.ftz.f32 %f1, %f2, %f3; tanh.approx.f16 %h1, %h2;"
    )
    names = [operation(i) for i in found.instructions[:3]]
    assert names == ["ex2.approx.bf16", "div.full.f32", "tanh.approx.f16"]
