"""The ways that a warp may take through machine code: stretches without a branch, and what leads where.

A function that the assembler has put behind a kernel (a division's rare cases, the remainder of 64-bit
integers) is part of the graph: a call leads to its first stretch, a return to the stretch behind each of its
calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from precision_lab.emulator.machine_code import Listing, MachineInstruction
from precision_lab.exceptions import UsageError

END = -1  # where a thread has ended

_ENDS = ("EXIT", "KILL")
_JUMPS = ("BRA", "JMP")
_UNKNOWN = ("BRX", "BRXU", "JMX", "JMXU")  # where these lead stands in a register
_LEAVES = (*_ENDS, *_JUMPS, *_UNKNOWN, "CALL", "RET")
_ALWAYS = re.compile(r"U?PT")
_PREDICATE = re.compile(r"!?U?P(?:\d+|T)")
_PLACE = re.compile(r"`\(([^)]+)\)")


@dataclass(frozen=True)
class Call:
    """One place that calls a function.

    Attributes:
        edge: number of the way to the function.
        returns: numbers of the ways that lead from its returns to the stretch behind the call.
        name: of the function.
    """

    edge: int
    returns: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Graph:
    """A kernel's stretches, those only that can be reached; the first is where it begins.

    Attributes:
        blocks: the instructions of each stretch, NOP included.
        edges: from which stretch to which other, or to `END`.
        loops: numbers of the edges that lead back to where a warp has been, outside of called functions.
        loops_in_functions: the same inside of them.
    """

    blocks: tuple[tuple[MachineInstruction, ...], ...]
    edges: tuple[tuple[int, int], ...]
    calls: tuple[Call, ...] = ()
    loops: tuple[int, ...] = ()
    loops_in_functions: tuple[int, ...] = ()


def graph_of(listing: Listing) -> Graph:
    """
    Raises:
        ValueError: a branch whose target stands in a register, or is not in the listing.
    """
    code, labels = listing.instructions, listing.labels
    if not code:
        raise UsageError("machine code without an instruction")
    starts = sorted({0, *labels.values(), *(k + 1 for k, i in enumerate(code) if i.opcode in _LEAVES)})
    starts = [k for k in starts if k < len(code)]
    blocks = [code[a:b] for a, b in zip(starts, [*starts[1:], len(code)], strict=True)]
    number = {start: k for k, start in enumerate(starts)}
    places = {name: number[at] for name, at in labels.items() if at in number}
    names = {places[label]: name for label, name in listing.names.items() if label in places}
    ways = {k: _ways(block[-1], k, len(blocks), places) for k, block in enumerate(blocks)}
    called = {k: _target(b[-1], places) for k, b in enumerate(blocks) if b[-1].opcode == "CALL"}
    bodies = {function: _reached(function, ways) for function in set(called.values())}
    main = _reached(0, ways)
    reached = set(main)
    while more := {called[k] for k in reached if k in called} - reached:
        reached = reached.union(*(bodies[function] for function in more))
    order = {k: n for n, k in enumerate(sorted(reached))}
    edges: list[tuple[int, int]] = []
    calls: list[Call] = []
    for k in sorted(reached):
        if k not in called or is_conditional(blocks[k][-1]):
            edges += [(k, to) for to in ways[k]]
        if k in called:
            at = len(edges)
            edges.append((k, called[k]))
            ends = [b for b in sorted(bodies[called[k]]) if blocks[b][-1].opcode == "RET"]
            calls.append(Call(at, tuple(range(at + 1, at + 1 + len(ends))), names[called[k]]))
            edges += [(b, to) for b in ends for to in ways[k]]
    back = leading_back(0, ways).union(*(leading_back(f, ways) for f in bodies))
    loops = [n for n, edge in enumerate(edges) if edge in back]
    return Graph(
        tuple(blocks[k] for k in sorted(reached)),
        tuple((order[k], END if to == END else order[to]) for k, to in edges),
        tuple(calls),
        tuple(n for n in loops if edges[n][0] in main),
        tuple(n for n in loops if edges[n][0] not in main),
    )


def is_conditional(i: MachineInstruction) -> bool:
    """Whether an instruction that leads elsewhere may also not do so."""
    if i.guard and not _ALWAYS.fullmatch(i.guard.lstrip("@!")):
        return True
    if i.opcode not in _JUMPS:
        return False
    if set(i.modifiers) & {"DIV", "CONV"}:
        return True
    return any(_PREDICATE.fullmatch(o) and not _ALWAYS.fullmatch(o) for o in i.operands[:-1])


def _target(i: MachineInstruction, places: Mapping[str, int]) -> int:
    found = _PLACE.search(i.operands[-1]) if i.operands else None
    name = found.group(1) if found else ""
    if name not in places:
        raise UsageError(
            f"{i.opcode} of machine code leads to {name or 'where a register says'}: not followed"
        )
    return places[name]


def _ways(i: MachineInstruction, here: int, count: int, places: Mapping[str, int]) -> tuple[int, ...]:
    """Where a stretch leads that ends with this instruction; a call to what is next to it."""
    found = []
    if i.opcode in _JUMPS or i.opcode in _UNKNOWN:
        found.append(_target(i, places))
    elif i.opcode in _ENDS:
        found.append(END)
    if i.opcode not in _LEAVES or i.opcode == "CALL" or is_conditional(i):
        found.append(here + 1 if here + 1 < count else END)
    return tuple(dict.fromkeys(found))


def _reached(start: int, ways: Mapping[int, Sequence[int]]) -> set[int]:
    """The stretches of one function."""
    found: set[int] = set()
    open_ = [start]
    while open_:
        k = open_.pop()
        if k not in found and k != END:
            found.add(k)
            open_ += ways[k]
    return found


def leading_back(start: int, ways: Mapping[int, Sequence[int]]) -> set[tuple[int, int]]:
    """The ways to a stretch that one has come through, from the first on."""
    found: set[tuple[int, int]] = set()
    done: set[int] = set()
    path: dict[int, list[int]] = {start: list(ways[start])}  # in order, with what is left to be tried
    while path:
        here = next(reversed(path))
        if not path[here]:
            done.add(here)
            del path[here]
            continue
        to = path[here].pop()
        if to in path:
            found.add((here, to))
        elif to != END and to not in done:
            path[to] = list(ways[to])
    return found
