"""What is said of machine code written by hand: the ways through it, and how often each is taken."""

from __future__ import annotations

import math

import pytest

from precision_lab.emulator.anchors import kind_of, machine_bytes, machine_kind
from precision_lab.emulator.control_flow import END, Graph, graph_of
from precision_lab.emulator.executed import KEPT, Evidence, executed
from precision_lab.emulator.machine_code import MachineInstruction, listing_of
from precision_lab.emulator.ptx import Instruction
from precision_lab.exceptions import UsageError


def graph(text: str) -> Graph:
    """Of lines such as "@P0 BRA `(.L_x_1)"; one that ends in a colon is a label."""
    lines = []
    for k, line in enumerate(filter(None, map(str.strip, text.splitlines()))):
        lines.append(line if line.endswith(":") else f"        /*{16 * k:04x}*/                   {line} ;")
    return graph_of(listing_of(lines))


STRAIGHT = """
    LDG.E R0, desc[UR4][R2.64]
    FFMA R0, R0, R1, R4
    STG.E desc[UR4][R2.64], R0
    EXIT
    .L_x_0:
    BRA `(.L_x_0)
    NOP
    NOP
"""
ONE_EACH = {("loads", "4"): 1.0, ("stores", "4"): 1.0, ("sums", "f32"): 1.0}

LOOP = """
    MOV R1, RZ
    .L_x_0:
    LDG.E R0, desc[UR4][R2.64]
    FFMA R1, R0, R1, R4
    ISETP.NE.AND P0, PT, R5, RZ, PT
    @P0 BRA `(.L_x_0)
    STG.E desc[UR4][R2.64], R1
    EXIT
"""
# A quotient: what is rare stands in a function behind the kernel.
SLOW = """
    LDG.E R0, desc[UR4][R2.64]
    FCHK P0, R0, R1
    @!P0 BRA `(.L_x_0)
    CALL.REL.NOINC `($__internal_0_$slow)
    .L_x_0:
    STG.E desc[UR4][R2.64], R0
    EXIT
    $__internal_0_$slow:
    FADD R0, R0, R1
    FADD R0, R0, R1
    RET.REL.NODEC R4 `(kernel)
"""
# Two steps at a time, and the rest one by one.
UNROLLED = """
    @P1 BRA `(.L_x_1)
    .L_x_0:
    LDG.E R0, desc[UR4][R2.64]
    LDG.E R1, desc[UR4][R2.64+0x4]
    FADD R5, R5, R0
    FADD R5, R5, R1
    @P0 BRA `(.L_x_0)
    .L_x_1:
    @P2 BRA `(.L_x_2)
    LDG.E R0, desc[UR4][R2.64]
    FADD R5, R0, R5
    .L_x_2:
    EXIT
"""
EITHER = """
    @P0 BRA `(.L_x_0)
    FADD R0, R0, R1
    FADD R0, R0, R1
    BRA `(.L_x_1)
    .L_x_0:
    FMUL R0, R0, R1
    .L_x_1:
    EXIT
"""


def test_straight_code_is_executed_once_and_what_fills_a_cache_line_never() -> None:
    found = executed(graph(STRAIGHT), Evidence(10.0, {k: 10 * v for k, v in ONE_EACH.items()}))
    assert (found.least, found.most, found.longest) == (40.0, 40.0, 40.0)
    assert {i.opcode: n for i, n in found.opcodes.items()} == dict.fromkeys(
        ("LDG", "FFMA", "STG", "EXIT"), 10.0
    )


def test_an_instruction_whose_predicate_fails_takes_its_slot() -> None:
    text = STRAIGHT.replace("STG.E", "@P0 STG.E")
    found = executed(graph(text), Evidence(1.0, {("stores", "4"): 0.0}))
    assert found.most == 4.0 and found.unused == ()


@pytest.mark.parametrize("trips", [1, 2, 7])
def test_a_loop_is_gone_through_as_often_as_its_loads_were_counted(trips: int) -> None:
    evidence = Evidence(1.0, {("loads", "4"): trips, ("sums", "f32"): trips}, trips - 1.0, 1)
    found = executed(graph(LOOP), evidence)
    assert found.least == found.most == pytest.approx(1 + 4 * trips + 2)


def test_a_loop_without_accesses_is_gone_through_as_often_as_its_sums_were_counted() -> None:
    text = LOOP.replace("LDG.E R0, desc[UR4][R2.64]", "FMUL R0, R1, R4")
    found = executed(graph(text), Evidence(1.0, {("sums", "f32"): 9.0}, 8.0, 1))
    assert found.least == found.most == pytest.approx(1 + 4 * 9 + 2)


def test_steps_taken_two_at_a_time_are_counted_so() -> None:
    """Nine: four times two and one. That half a time is none is not in the conditions."""
    code = graph(UNROLLED)
    found = executed(code, Evidence(1.0, {("loads", "4"): 9.0, ("sums", "f32"): 9.0}, 8.0, 1))
    assert found.least <= 1 + 5 * 4 + 1 + 2 + 1 <= found.most < 27
    assert found.unused == ()


def test_a_rare_function_is_left_open_and_part_of_the_longest_way() -> None:
    code = graph(SLOW)
    found = executed(code, Evidence(1.0, {("loads", "4"): 1.0, ("stores", "4"): 1.0}))
    assert (found.least, found.most) == (5.0, 9.0)
    assert len(code.calls) == 1 and len(code.calls[0].returns) == 1


def test_what_is_never_executed_with_ordinary_inputs_is_in_the_longest_way_alone() -> None:
    text = EITHER.replace(
        "FMUL R0, R0, R1", "SHFL.BFLY PT, R1, R0, 0x1, 0x1f\nFMUL R0, R0, R1\nFMUL R0, R0, R1"
    )
    found = executed(graph(text), Evidence(1.0, {("synchronisation", "shuffle"): 0.0}))
    assert (found.least, found.most, found.longest) == (5.0, 5.0, 5.0)
    taken = executed(graph(text), Evidence(1.0, {("synchronisation", "shuffle"): 1.0}))
    assert (taken.least, taken.most) == (5.0, 5.0)
    assert "FADD" not in {i.opcode for i, n in taken.opcodes.items() if n}


def test_a_warp_that_goes_both_ways_executes_both() -> None:
    together = executed(graph(EITHER), Evidence(1.0))
    assert (together.least, together.most) == (3.0, 5.0)
    apart = executed(graph(EITHER), Evidence(1.0, divergent=True))
    assert apart.most == pytest.approx(1 + 3 + 1 + 1, abs=1.1)
    assert apart.most > together.most


def test_evidence_that_does_not_fit_is_left_out_and_named() -> None:
    found = executed(graph(STRAIGHT), Evidence(1.0, {("stores", "4"): 3.0}))
    assert found.most == 4.0 and "stores" in found.unused and KEPT not in found.unused


def test_a_loop_inside_a_function_has_no_bound() -> None:
    text = SLOW.replace("FADD R0, R0, R1\n    RET", ".L_x_9:\n    @P1 BRA `(.L_x_9)\n    RET")
    code = graph(text)
    assert code.loops == () and len(code.loops_in_functions) == 1
    assert executed(code, Evidence(1.0)).most == math.inf


def test_code_without_an_end_is_not_counted() -> None:
    with pytest.raises(UsageError, match="no way through the machine code comes to an end"):
        executed(graph(".L_x_0:\nFADD R0, R0, R1\nBRA `(.L_x_0)"), Evidence(1.0))


def test_a_branch_leads_to_its_label_and_past_itself() -> None:
    code = graph(EITHER)
    assert [len(block) for block in code.blocks] == [1, 3, 1, 1]
    assert set(code.edges) == {(0, 1), (0, 2), (1, 3), (2, 3), (3, END)}


def test_a_predicate_may_stand_among_the_operands() -> None:
    code = graph("BRA P1, `(.L_x_0)\nFADD R0, R0, R1\n.L_x_0:\nEXIT")
    assert [len(block) for block in code.blocks] == [1, 1, 1] and {(0, 1), (0, 2)} <= set(code.edges)
    always = graph("BRA PT, `(.L_x_0)\nFADD R0, R0, R1\n.L_x_0:\nEXIT")
    assert [len(block) for block in always.blocks] == [1, 1]


def test_a_jump_to_where_a_register_says_is_not_followed() -> None:
    with pytest.raises(UsageError, match="BRX of machine code leads to where a register says"):
        graph("BRX R2 -0x10\nEXIT")


def test_a_way_back_is_a_loop_only_if_one_came_through_there() -> None:
    code = graph(".L_x_9:\nBRA `(.L_x_1)\n.L_x_0:\nEXIT\n.L_x_1:\nFADD R0, R0, R1\nBRA `(.L_x_0)")
    assert code.loops == ()
    assert len(graph(LOOP).loops) == 1


def ptx(name: str) -> Instruction:
    opcode, *modifiers = name.split(".")
    return Instruction(opcode, tuple(modifiers), (), None, 1, None, name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ld.global.v4.b32", ("loads", "16")), ("ld.global.nc.L1::no_allocate.b16", ("loads", "2")),
        ("st.global.v8.b32", ("stores", "32")), ("st.global.u8", ("stores", "1")),
        ("ld.shared.f64", ("shared", "ld 8")),
        ("atom.global.gpu.relaxed.add.f32", ("synchronisation", "atomic")),
        ("shfl.sync.bfly.b32", ("synchronisation", "shuffle")), ("bar.sync", ("synchronisation", "barrier")),
        ("ex2.approx.ftz.f32", ("functions", "EX2")), ("fma.rn.f32", ("sums", "f32")),
        ("add.f64", ("sums", "f64")), ("bar.warp.sync", None), ("mul.f32", None), ("ld.param.u64", None),
        ("ex2.approx.ftz.bf16x2", None), ("add.s32", None),
    ],
)  # fmt: skip
def test_an_instruction_of_ptx_has_the_kind_of_its_machine_code(
    name: str, kind: tuple[str, str] | None
) -> None:
    found = kind_of(ptx(name))
    assert (found[0] if found else None) == kind


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("LDG.E.128", ("loads", "16"), 16), ("LDG.E.U16.CONSTANT", ("loads", "2"), 2),
        ("STG.E.64", ("stores", "8"), 8), ("STS", ("shared", "st 4"), 4),
        ("MUFU.EX2", ("functions", "EX2"), 4),
        ("MUFU.RCP", None, 4), ("FFMA2", ("sums", "f32"), 4), ("BAR.SYNC", ("synchronisation", "barrier"), 4),
    ],
)  # fmt: skip
def test_machine_code_has_kinds_and_widths(name: str, kind: tuple[str, str] | None, size: int) -> None:
    opcode, *modifiers = name.split(".")
    i = MachineInstruction("", opcode, tuple(modifiers), ())
    found = machine_kind(i)
    assert (found[0] if found else None) == kind and machine_bytes(i) == size
