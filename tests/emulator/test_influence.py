"""Which approximate instructions a stored number depends on: never too few."""

from __future__ import annotations

import pytest
from ptx_programs import THREAD, kernel

from precision_lab.emulator.influence import influence, operation

COMBINED = "several threads' or turns' results of ex2.approx.f32 are combined"
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
    assert found.obstacles == {"y": COMBINED}


def test_a_turn_of_its_own_is_one_execution() -> None:
    """A loop over elements, each computed and stored in one turn."""
    body = """
        mov.u32 %r10, 0; mov.u64 %d7, %d9; mov.u64 %d6, %d8;
        again: ld.global.f32 %f5, [%d7]; ex2.approx.f32 %f6, %f5; st.global.f32 [%d6], %f6;
        add.u64 %d7, %d7, 4; add.u64 %d6, %d6, 4;
        add.u32 %r10, %r10, 1; setp.lt.u32 %p1, %r10, 3; @%p1 bra again;
    """
    found = influence(kernel(THREAD + LOAD + body))
    assert list(found.colours.values()) == [0] and not found.obstacles
    # What an earlier turn has left is another execution.
    kept = body.replace("mov.u32 %r10, 0;", "mov.u32 %r10, 0; mov.f32 %f7, %f1;").replace(
        "st.global.f32 [%d6], %f6;", "add.f32 %f8, %f6, %f7; mov.f32 %f7, %f6; st.global.f32 [%d6], %f8;"
    )
    assert influence(kernel(THREAD + LOAD + kept)).obstacles == {"y": COMBINED}


SHARED = ".shared .b8 s[128]; mov.u32 %r20, s; shl.b32 %r21, %r3, 2; add.u32 %r20, %r20, %r21;"
MOVES = {
    "shuffle": "shfl.sync.bfly.b32 %r11, %r10, 1, 31, -1;",
    "shared memory": f"{SHARED} st.shared.u32 [%r20], %r10; bar.sync 0; xor.b32 %r20, %r20, 4; "
    "ld.shared.u32 %r11, [%r20];",
}
COMBINES = {
    "reduction": "redux.sync.add.u32 %r12, %r10, -1; st.global.u32 [%d8], %r12;",
    "atomic": "red.global.add.f32 [%d2], %f3;",
    **{
        f"sum by {how}": f"{move} add.u32 %r12, %r10, %r11; st.global.u32 [%d8], %r12;"
        for how, move in MOVES.items()
    },
}


@pytest.mark.parametrize("how", MOVES)
def test_what_another_thread_hands_over_is_one_execution(how: str) -> None:
    """As where a layout is changed before a store."""
    body = f"ex2.approx.f32 %f3, %f1; mov.b32 %r10, %f3; {MOVES[how]} st.global.u32 [%d8], %r11;"
    found = influence(kernel(THREAD + LOAD + body))
    assert list(found.colours.values()) == [0] and not found.obstacles


@pytest.mark.parametrize("how", COMBINES)
def test_what_threads_combine_cannot_be_chosen_for_all_at_once(how: str) -> None:
    begin = f"{THREAD} {LOAD} ex2.approx.f32 %f3, %f1; mov.b32 %r10, %f3;"
    assert influence(kernel(begin + COMBINES[how])).obstacles == {"y": COMBINED}
    # What is combined without any approximate result has nothing to choose.
    assert not influence(kernel(begin.replace("ex2.approx", "neg") + COMBINES[how])).obstacles


def test_an_obstacle_is_that_of_the_memory_it_leads_to() -> None:
    body = "ex2.approx.f32 %f3, %f1; st.global.f32 [%d8], %f3; red.global.add.f32 [%d1], %f3;"
    found = influence(kernel(THREAD + "mov.f32 %f1, 0f3F000000;" + body))
    assert set(found.obstacles) == {"x"} and not found.hidden
    assert found.stores == {"x", "y"} and found.loads == set()
    # What is stored where it is also loaded may come back.
    assert set(influence(kernel(THREAD + LOAD + body)).obstacles) == {"x", "y"}


def test_names_are_those_of_the_models() -> None:
    found = kernel(
        "ex2.approx.ftz.bf16x2 %r1, %r2; div.full.ftz.f32 %f1, %f2, %f3; tanh.approx.f16 %h1, %h2;"
    )
    names = [operation(i) for i in found.instructions[:3]]
    assert names == ["ex2.approx.bf16", "div.full.f32", "tanh.approx.f16"]
