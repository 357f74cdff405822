"""What machine code's stored numbers depend on: every combination is reached, or said not to be."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from emulation import needs_programs
from shipped_kernels import backward_name, forward_name, torch_like

from precision_lab.emulator.influence import Influence
from precision_lab.emulator.launch import Choice, Launch, argument
from precision_lab.emulator.machine_code import assemble
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.sass.code import SassKernel, pointer_name
from precision_lab.emulator.sass.engine import SassEngine
from precision_lab.emulator.sass.influence import _Uses, influence_of, operation, ptx_name
from precision_lab.emulator.sass.program import CONTROL
from precision_lab.emulator.sass.text import kernel_of

pytestmark = needs_programs("nvdisasm")
TARGETS = ("sm_80", "sm_90")
each_target = pytest.mark.parametrize("target", TARGETS)

PTX = """
.version 8.0
.target {target}
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y)
{{
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<19>;
    .reg .f32 %f<19>;
    .reg .b64 %d<9>;
    .shared .align 4 .b8 there[128];
    ld.param.u64 %d1, [x];
    ld.param.u64 %d2, [y];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %d3, %r1, 8;
    add.u64 %d4, %d1, %d3;
    add.u64 %d5, %d2, %d3;
    ld.global.v2.f32 {{%f1, %f2}}, [%d4];
{body}
}}"""
BODIES = {
    "apart": "ex2.approx.ftz.f32 %f3, %f1; ex2.approx.ftz.f32 %f4, %f2; st.global.v2.f32 [%d5], {%f3, %f4};",
    "chain": "ex2.approx.ftz.f32 %f3, %f1; add.f32 %f3, %f3, %f2; rcp.approx.ftz.f32 %f4, %f3; "
    "st.global.f32 [%d5], %f4;",
    "together": "ex2.approx.ftz.f32 %f3, %f1; ex2.approx.ftz.f32 %f4, %f2; add.f32 %f5, %f3, %f4; "
    "st.global.f32 [%d5], %f5;",
    "halves": "ex2.approx.ftz.f32 %f3, %f1; ex2.approx.ftz.f32 %f4, %f2; cvt.rn.bf16x2.f32 %r2, %f3, %f4; "
    "st.global.b32 [%d5], %r2;",
    "branch": "ex2.approx.ftz.f32 %f3, %f1; setp.lt.f32 %p1, %f3, 0f40000000; mov.f32 %f5, %f2; "
    "@%p1 bra ELSE; lg2.approx.ftz.f32 %f5, %f2; ex2.approx.ftz.f32 %f6, %f5; st.global.f32 [%d5+4], %f6; "
    "ELSE: st.global.f32 [%d5], %f5;",
    "quotient": "ex2.approx.ftz.f32 %f3, %f1; div.rn.f32 %f4, %f2, %f3; ex2.approx.ftz.f32 %f5, %f2; "
    "div.rn.f32 %f6, %f1, %f5; st.global.v2.f32 [%d5], {%f4, %f6};",
    "shuffle": "ex2.approx.ftz.f32 %f3, %f1; mov.b32 %r2, %f3; shfl.sync.bfly.b32 %r3, %r2, 1, 31, -1; "
    "mov.b32 %f4, %r3; add.f32 %f5, %f3, %f4; st.global.f32 [%d5], %f5;",
    "memory": "mul.wide.u32 %d6, %r1, 4; ex2.approx.ftz.f32 %f3, %f1; mov.u32 %r4, there; "
    "mad.lo.u32 %r5, %r1, 4, %r4; st.shared.f32 [%r5], %f3; bar.sync 0; xor.b32 %r6, %r1, 1; "
    "mad.lo.u32 %r7, %r6, 4, %r4; ld.shared.f32 %f4, [%r7]; add.f32 %f5, %f3, %f4; st.global.f32 [%d5], %f5;",
}  # fmt: skip


@cache
def kernel(name: str, target: str) -> SassKernel:
    ptx = PTX.format(target=target, body=BODIES[name] + " ret;")
    return kernel_of(assemble(ptx, target), "k", target)


def found(name: str, target: str) -> Influence:
    return influence_of(kernel(name, target), frozenset({"k_param_0", "k_param_1"}))


def colours(name: str, target: str) -> list[int]:
    return sorted(found(name, target).colours.values())


@each_target
def test_numbers_that_are_stored_apart_take_their_choices_together(target: str) -> None:
    assert colours("apart", target) == [0, 0]
    assert colours("halves", target) == [0, 0]


@each_target
def test_what_one_stored_number_depends_on_is_chosen_apart(target: str) -> None:
    assert colours("chain", target) == [0, 1]
    assert colours("together", target) == [0, 1]


@each_target
def test_where_a_branch_leads_depends_on_what_decided_it(target: str) -> None:
    """The number behind it is one of two, by a third one's choice."""
    given = found("branch", target)
    code = kernel("branch", target).code
    decides, *others = sorted(given.colours)
    assert given.colours[decides] not in {given.colours[other] for other in others}
    assert operation(code[decides]) == "ex2.approx.f32" and ptx_name(code[decides]) == "ex2.approx.ftz.f32"


@each_target
def test_a_quotient_takes_one_reciprocal_whichever_way_it_takes(target: str) -> None:
    """The long way is a subroutine, which is gone through for either of two numbers."""
    given = found("quotient", target)
    assert not given.obstacles
    names = {k: operation(kernel("quotient", target).code[k]) for k in given.colours}
    assert {given.colours[k] for k, name in names.items() if name.startswith("ex2")} == {0}
    assert {given.colours[k] for k, name in names.items() if name.startswith("rcp")} == {1}


@each_target
@pytest.mark.parametrize("name", ["shuffle", "memory"])
def test_threads_that_tell_each_other_are_no_choice_by_instruction(name: str, target: str) -> None:
    assert "results of ex2.approx.ftz.f32 are combined" in found(name, target).obstacles["k_param_1"]


@each_target
def test_what_is_read_and_what_is_written_is_told_apart(target: str) -> None:
    given = found("apart", target)
    assert given.loads == {"k_param_0"} and given.stores == {"k_param_1"} and not given.hidden


@each_target
@pytest.mark.parametrize("name", ["apart", "chain", "branch", "quotient"])
def test_choices_by_colour_reach_every_result_that_choices_by_instruction_do(name: str, target: str) -> None:
    code, given = kernel(name, target), found(name, target)
    x = np.random.default_rng(7).uniform(-3, 3, 64).astype(np.float32)

    def results(moved: dict[int, int]) -> np.ndarray:
        memory = Memory.reserve(1 << 20)
        at, to = memory.put(x), memory.put(np.zeros(64, np.float32))
        launch = Launch(code, (1, 1, 1), (32, 1, 1), argument([at, to], [8, 8]), choice=Choice(moved))
        SassEngine().run(launch, memory)
        return memory.get(to, np.uint32, 64)

    def reached(groups: list[list[int]]) -> list[set[int]]:
        every: list[set[int]] = [set() for _ in range(64)]
        for choice in itertools.product((-1, 0, 1), repeat=len(groups)):
            moved = {site: by for group, by in zip(groups, choice, strict=True) for site in group}
            for known, value in zip(every, results(moved).tolist(), strict=True):
                known.add(value)
        return every

    by_colour = [[s for s, c in given.colours.items() if c == k] for k in sorted(set(given.colours.values()))]
    alone = reached([[site] for site in given.colours])
    assert max(map(len, alone)) > 1  # a choice shows
    assert reached(by_colour) == alone


@each_target
def test_pointers_in_a_struct_are_told_apart(target: str) -> None:
    cubin = torch_like(target)
    for name, inputs in ((forward_name(), 1), (backward_name(), 2)):
        code = kernel_of(cubin, name, target)
        data = code.parameters[2].name
        pointers = [pointer_name(data, 8 * k) for k in range(inputs + 1)]
        given = influence_of(code, frozenset(pointers))
        assert given.stores == {pointers[0]} and given.loads == set(pointers[1:])
        assert not given.obstacles and set(given.colours.values()) == {0, 1}


@each_target
def test_what_an_instruction_reads_and_writes_is_noted_whatever_it_asks_lanes_for(target: str) -> None:
    """No step looks past the lanes that note it: the registers it has changed are those it was noted for."""
    for name in BODIES:
        code = kernel(name, target)
        uses = _Uses(code)
        for i in code.code:
            if i.opcode in (*CONTROL, "NOP"):
                continue
            use = uses.of(i)
            changed = set(uses._lanes.registers)
            assert changed == {f"{kind}{number}" for kind, number in use.writes}, i.text
