"""How often a warp executes each stretch of a kernel's machine code, as far as what is known of it says.

Known is the graph, and what was counted while the PTX of the same launch was executed: how many warps there
are, how often each kind of access to memory, shuffle, barrier or function was executed, and how often a loop
was gone through again. Every way through the machine code that agrees with that is allowed; the fewest and
the most instructions among them are the ends of a range, which are one where the evidence leaves nothing
open.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from precision_lab.emulator.anchors import AT_LEAST, GROUPS, SUMS, Kind, machine_kind
from precision_lab.emulator.control_flow import END, Graph
from precision_lab.emulator.linear import Conditions, Solution
from precision_lab.emulator.machine_code import MachineInstruction
from precision_lab.exceptions import UsageError

LOOPS, KEPT, RARE = "loops", "loops kept", "rare operands"
# How the assembler calls functions for operands of a division or a root that are near over- or underflow.
_FOR_RARE = re.compile(r"slowpath$|_full$")
_SAME = 1e-6  # ends of a range that are one


@dataclass(frozen=True)
class Evidence:
    """What executing the PTX of a launch has shown, in executions by a warp, all warps together.

    Attributes:
        warps: of the launch.
        counts: of each kind of instruction, by warps in which at least one thread executes it.
        loops: how often a branch to an earlier place was taken.
        branches_back: how many such branches there are.
        rare: divisions and roots, rounded correctly, with an operand that is 0, infinite, NaN, or so small or
            large that over- or underflow may be near.
        divergent: threads of one warp have taken different ways.
    """

    warps: float
    counts: Mapping[Kind, float] = field(default_factory=dict)
    loops: float = 0.0
    branches_back: int = 0
    rare: float = 0.0
    divergent: bool = False


@dataclass(frozen=True)
class Executed:
    """Executions by a warp, all warps of a launch together.

    Attributes:
        least, most: of instructions, for the inputs of the evidence.
        longest: of instructions, whatever the inputs are: branches that none of them has taken are; loops as
            often as counted. Infinite where a loop was never seen.
        opcodes: of each instruction as it stands there, on the way with the most instructions.
        unused: kinds of evidence that do not agree with the machine code, and were left out.
    """

    least: float
    most: float
    longest: float
    opcodes: Mapping[MachineInstruction, float]
    unused: tuple[str, ...] = ()


def executed(graph: Graph, evidence: Evidence) -> Executed:
    """What the evidence says of the machine code.

    Raises:
        ValueError: no way through it comes to an end.
    """
    issued = {k: float(len(block)) for k, block in enumerate(graph.blocks)}
    left_out: list[str] = []
    found: Solution | None = None
    # Trusted least first. That loops are kept is a guess, and nothing is said where it is wrong.
    for k in range(len(GROUPS) + 4):
        left_out = list((KEPT, *GROUPS, LOOPS, RARE)[:k])
        found = _conditions(graph, evidence, left_out).solved()
        if found is not None:
            break
    if found is None:
        raise UsageError("no way through the machine code comes to an end")
    least, _ = found.least(issued)
    most, way = found.most(issued)
    any_way = _conditions(graph, evidence, [KEPT, *GROUPS, RARE]).solved()
    longest = most if any_way is None else max(most, any_way.most(issued)[0])
    opcodes: dict[MachineInstruction, float] = defaultdict(float)
    for k, block in enumerate(graph.blocks):
        for i in block:
            opcodes[i] += float(way[k]) if math.isfinite(most) else math.inf
    if most - least <= _SAME * most:
        least = most
    return Executed(least, most, longest, dict(opcodes), tuple(left_out[1:]))


def _conditions(graph: Graph, evidence: Evidence, left_out: Sequence[str]) -> Conditions:
    """Of the executions of each stretch, then of each way between two."""
    blocks, ways = len(graph.blocks), len(graph.edges)
    conditions = Conditions(blocks + ways)
    entering: dict[int, list[int]] = defaultdict(list)
    leaving: dict[int, list[int]] = defaultdict(list)
    for n, (source, to) in enumerate(graph.edges):
        leaving[source].append(blocks + n)
        if to != END:
            entering[to].append(blocks + n)
    for k in range(blocks):
        begins = evidence.warps if k == 0 else 0.0
        for many, given in ((entering[k], begins), (leaving[k], 0.0)):
            if not many and not given:
                conditions.equal({k: 1.0}, 0.0)  # behind a call that does not come back
            elif len(many) + (given > 0) == 1 or not evidence.divergent:
                conditions.equal({k: 1.0, **dict.fromkeys(many, -1.0)}, given)
            else:
                # Parts of a warp go different ways one after the other, and meet again.
                conditions.at_most({k: 1.0, **dict.fromkeys(many, -1.0)}, given)
                for one in many:
                    conditions.at_least({k: 1.0, one: -1.0}, 0.0)
                conditions.at_least({k: 1.0}, given)
    for call in graph.calls:
        returns = dict.fromkeys((blocks + n for n in call.returns), -1.0)
        conditions.equal({blocks + call.edge: 1.0, **returns}, 0.0)
        if RARE not in left_out and _FOR_RARE.search(call.name):
            conditions.at_most({blocks + call.edge: 1.0}, evidence.rare)
    if LOOPS not in left_out and graph.loops:
        again = dict.fromkeys((blocks + n for n in graph.loops), 1.0)
        # The assembler makes no loops; it may go through one less often, several steps at a time. With a loop
        # for the rest there are then more of them; without, counts of what stands in it contradict this.
        if KEPT not in left_out and len(graph.loops) == evidence.branches_back:
            conditions.equal(again, evidence.loops)
        else:
            conditions.at_most(again, evidence.loops)
    for kind, count in evidence.counts.items():
        if kind[0] in left_out:
            continue
        anywhere, always = _sites(graph, kind)
        if anywhere:
            conditions.at_least(anywhere, count)
            if always and kind[0] not in AT_LEAST:
                conditions.at_most(always, count)
    return conditions


def _sites(graph: Graph, kind: Kind) -> tuple[dict[int, float], dict[int, float]]:
    """How many instructions of a kind each stretch has, and how many of them no thread there leaves out."""
    anywhere: dict[int, float] = defaultdict(float)
    always: dict[int, float] = defaultdict(float)
    for k, block in enumerate(graph.blocks):
        for i in block:
            found = machine_kind(i)
            if found is None or found[0] != kind:
                continue
            anywhere[k] += found[1]
            if not i.guard:
                always[k] += found[1]
    return anywhere, always


__all__ = ["KEPT", "LOOPS", "RARE", "SUMS", "Evidence", "Executed", "executed"]
