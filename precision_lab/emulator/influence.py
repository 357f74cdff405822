"""Which approximate instructions a stored number depends on, read off the program.

What a device may return for one of them is a few numbers. All results that conforming devices may give are
then those of every combination of choices for the executions that one stored number depends on. Where that is
at most one execution of each instruction, in whichever thread and turn of a loop, to choose for instructions
is enough: every execution of one takes the same choice, and every number still meets every combination. Then
instructions that no stored number depends on together, such as those of the eight elements of one thread, are
chosen together.

The analysis follows registers in parts of 16 bits along all ways through the program. A value is a set of
alternatives, as where a branch or a load from shared memory may bring one of several; each is the set of
executions that it depends on: an instruction, and whether its execution is another thread's or an earlier
turn's. It only ever errs by naming too much.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from precision_lab.emulator import bounds
from precision_lab.emulator.operands import read, results_of, sources_of, written
from precision_lab.emulator.ptx import (
    Address,
    Instruction,
    Kernel,
    Not,
    Operand,
    Register,
    Symbol,
    Vector,
)

APPROXIMATE = ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "tanh", "sin", "cos", "div")
_MOST_ALTERNATIVES = 64
# Beyond, a program is not followed: a second or two.
_MOST_INSTRUCTIONS, _MOST_STEPS, _MOST_MERGED = 7000, 50_000, 200_000

Execution = tuple[int, bool]  # of an instruction; whether it is another thread's or an earlier turn's
Alternative = frozenset[Execution]
Value = frozenset[Alternative]
_CLASH: Execution = (-1, True)  # two executions of one instruction, or nobody knows which
_ALL: Execution = (-2, True)  # of what had too many alternatives
_PLAIN: Alternative = frozenset()
NOTHING: Value = frozenset({_PLAIN})


def is_approximate(i: Instruction) -> bool:
    """Whether what it returns is the device's to choose, within the manual's bound."""
    return i.opcode in APPROXIMATE and ("approx" in i.modifiers or "full" in i.modifiers)


def operation(i: Instruction) -> str:
    """What an approximate instruction is called in `bounds`."""
    return bounds.operation(i.name)


@dataclass(frozen=True)
class Influence:
    """
    Attributes:
        colours: of each approximate instruction that something stored depends on, by index; two that one
            stored number depends on have different ones.
        loads, stores: parameters that addresses of loads and stores in global memory are made from.
        obstacles: of a parameter by which something is stored, why choosing one result for all threads and
            turns does not reach every combination there.
        hidden: some address is made from no parameter that can be seen, so that it may point anywhere.
    """

    colours: Mapping[int, int]
    loads: frozenset[str]
    stores: frozenset[str]
    obstacles: Mapping[str, str] = field(default_factory=dict)
    hidden: bool = False


class _TooLarge(Exception):
    """Following the program takes too long."""


class _Work:
    """Since a program was begun: instructions followed, and alternatives merged."""

    steps = 0
    merged = 0


# -- values ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def both(a: Value, b: Value) -> Value:
    """What depends on two values."""
    if a == NOTHING or a == b == _own(a):
        return b
    if b == NOTHING:
        return a
    _Work.merged += len(a) * len(b)
    if _Work.merged > _MOST_MERGED:
        raise _TooLarge
    return _limited(frozenset(_merged(x, y) for x in a for y in b))


def _own(value: Value) -> Value:
    """The value, if it depends on executions of this thread and turn alone: then twice it is once."""
    single = len(value) == 1 and not any(other for alternative in value for _, other in alternative)
    return value if single else frozenset()


def _merged(x: Alternative, y: Alternative) -> Alternative:
    union = x | y
    foreign = {site for site, other in union if other and site >= 0}
    twice = any(((site, False) in union) or ((site, True) in x and (site, True) in y) for site in foreign)
    return union | {_CLASH} if twice else union


def _limited(value: Value) -> Value:
    """The value, or where it has too many alternatives one that is all of them, and stays so."""
    if len(value) == 1 or (len(value) <= _MOST_ALTERNATIVES and not any(_ALL in a for a in value)):
        return value
    return frozenset({frozenset({_CLASH, _ALL}).union(*value)})


def _foreign(value: Value) -> Value:
    """The same, of another thread or turn."""
    return frozenset(frozenset((site, True) for site, _ in alternative) for alternative in value)


def _clashing(value: Value) -> Value:
    """The value's executions of several threads at once."""
    return frozenset(alternative | {_CLASH} if alternative else alternative for alternative in value)


# -- the program -----------------------------------------------------------------------------------


@dataclass
class _Whole:
    """What is known of the program as a whole, whichever way it takes; it only grows."""

    pointers: frozenset[str]
    loops: frozenset[int]  # instructions between a place and a branch back to it
    needed: Mapping[int, frozenset[str]]  # at each label, registers that are read before they are written
    under: Mapping[int, tuple[Register, ...]] = field(default_factory=dict)  # see `influence`
    points: Mapping[int, frozenset[str]] | None = None  # see `influence`
    origins: dict[str, frozenset[str]] = field(default_factory=dict)  # pointers that a register is made from
    memory: Value = NOTHING  # what may stand where threads store and load
    control: Value = NOTHING  # what branches were decided by
    stored: dict[str, Value] = field(default_factory=dict)  # by parameter; "" for where nobody can see
    loads: set[str] = field(default_factory=set)
    stores: set[str] = field(default_factory=set)
    hidden: bool = False

    def size(self) -> tuple[int, ...]:
        values = (self.memory, self.control, *self.stored.values())
        return (
            sum(map(len, self.origins.values())), len(self.loads), len(self.stores), self.hidden,
            *(sum(len(a) + 1 for a in v) for v in values),
        )  # fmt: skip


_Registers = dict[str, tuple[Value, ...]]


def _nothing(one: int, other: int) -> bool:
    """Excludes nothing."""
    return False


def influence(
    kernel: Kernel,
    pointers: frozenset[str] | None = None,
    *,
    origins: Sequence[int] | None = None,
    under: Mapping[int, tuple[Register, ...]] | None = None,
    points: Mapping[int, frozenset[str]] | None = None,
    exclude: Callable[[int, int], bool] = _nothing,
) -> Influence:
    """What a kernel's stored numbers depend on.

    Args:
        pointers: parameters that addresses can be made from; None for all that are as large as an address.
        origins: of a program that was made from another one, the index there of each instruction; colours
            are by these, and several instructions made of one count as executions of it.
        under: of each instruction, registers that its results depend on beside its operands.
        points: of each access of global memory, the parameters that its address is made from; None for what
            the names of its registers say.
        exclude: whether no thread executes both of two instructions.
    """
    if pointers is None:
        pointers = frozenset(p.name for p in kernel.parameters if p.size == 8)
    _Work.steps = _Work.merged = 0
    under = under or {}
    whole, before = _Whole(pointers, _in_loops(kernel), _needed(kernel, under), under, points), None
    try:
        if len(kernel.instructions) > _MOST_INSTRUCTIONS:
            raise _TooLarge
        while before != (now := whole.size()):  # what is stored late may be loaded early, in another thread
            before = now
            _walk(kernel, whole)
    except _TooLarge:
        approximate = any(is_approximate(i) for i in kernel.instructions)
        why = "the program is too large for all its ways to be followed"
        return Influence({}, pointers, pointers, dict.fromkeys(pointers, why) if approximate else {}, True)
    groups: set[tuple[frozenset[int], bool]] = set()
    obstacles = {}
    for parameter, value in whole.stored.items():
        for alternative in both(value, whole.control):
            sites = frozenset(site for site, _ in alternative if site >= 0)
            # What one thread cannot execute both of two threads can.
            alone = not any(other for site, other in alternative if site >= 0)
            if sites and (_CLASH in alternative or _twice(sites, origins, exclude if alone else _nothing)):
                names = ", ".join(sorted({kernel.instructions[s].name for s in sites}))
                obstacles[parameter] = f"several threads' or turns' results of {names} are combined"
            else:
                groups.add((sites, alone))
    hidden = whole.hidden or "" in whole.stored
    colours = _coloured(_beside(groups, origins, exclude), kernel, origins)
    return Influence(colours, frozenset(whole.loads), frozenset(whole.stores), obstacles, hidden)


def _twice(sites: frozenset[int], origins: Sequence[int] | None, exclude: Callable[[int, int], bool]) -> bool:
    """Whether one thread executes two of them that are one in the other program."""
    return origins is not None and any(
        origins[a] == origins[b] and not exclude(a, b) for a, b in itertools.combinations(sites, 2)
    )


def _in_loops(kernel: Kernel) -> frozenset[int]:
    found: set[int] = set()
    for index, i in enumerate(kernel.instructions):
        if i.opcode == "bra" and isinstance(i.operands[0], Symbol):
            to = kernel.labels[i.operands[0].name]
            found.update(range(to, index + 1))
    return frozenset(found)


def _needed(kernel: Kernel, under: Mapping[int, tuple[Register, ...]]) -> dict[int, frozenset[str]]:
    """At each place that a label names: registers that may be read before anything is written to them."""
    end = len(kernel.instructions)
    branches = {k + 1 for k, i in enumerate(kernel.instructions) if i.opcode in ("bra", "ret", "exit")}
    edges = sorted({0, end, *kernel.labels.values(), *branches})
    blocks = list(itertools.pairwise(edges))
    reads, writes = {}, {}
    for first, last in blocks:
        reads[first], writes[first] = _use(kernel.instructions[first:last], under, first)
    before: dict[int, frozenset[str]] = dict.fromkeys(edges, frozenset())
    changed = True
    while changed:
        changed = False
        for first, last in reversed(blocks):
            i = kernel.instructions[last - 1]
            leaves = i.opcode in ("bra", "ret", "exit") and i.guard is None
            behind = frozenset() if leaves else before[last]
            if i.opcode == "bra" and isinstance(i.operands[0], Symbol):
                behind |= before[kernel.labels[i.operands[0].name]]
            now = reads[first] | (behind - writes[first])
            changed |= now != before[first]
            before[first] = now
    return before


def _use(
    instructions: Iterable[Instruction], under: Mapping[int, tuple[Register, ...]], first: int
) -> tuple[frozenset[str], frozenset[str]]:
    """Registers that a stretch reads before it writes them, and those that it writes in any case."""
    reads: set[str] = set()
    writes: set[str] = set()
    for index, i in enumerate(instructions, first):
        given = (*sources_of(i), *([i.guard] if i.guard else []), *under.get(index, ()))
        reads |= {r.name for operand in given for r in read(operand)} - writes
        if i.guard is None:
            writes |= {r.name for to in results_of(i) for r in written(to)}
    return frozenset(reads), frozenset(writes)


def _beside(
    groups: Iterable[tuple[frozenset[int], bool]],
    origins: Sequence[int] | None,
    exclude: Callable[[int, int], bool],
) -> dict[int, set[int]]:
    """Of each instruction, those that need another colour.

    Args:
        groups: that one number depends on, and whether all are executed by one thread.
    """
    beside: dict[int, set[int]] = {}
    for group, alone in groups:
        for site in group:
            beside.setdefault(site if origins is None else origins[site], set())
        for a, b in itertools.combinations(group, 2):
            if not (alone and exclude(a, b)):
                one, other = (a, b) if origins is None else (origins[a], origins[b])
                if one != other:
                    beside[one].add(other)
                    beside[other].add(one)
    return beside


def _coloured(
    beside: Mapping[int, set[int]], kernel: Kernel, origins: Sequence[int] | None
) -> dict[int, int]:
    """Greedily, by index, or instruction by instruction where that takes fewer: not always the fewest."""
    names = {k if origins is None else origins[k]: i.name for k, i in enumerate(kernel.instructions)}

    def greedily(order: Iterable[int]) -> dict[int, int]:
        colours: dict[int, int] = {}
        for site in order:
            taken = {colours[other] for other in beside[site] if other in colours}
            colours[site] = next(c for c in range(len(taken) + 1) if c not in taken)
        return colours

    ways = [greedily(sorted(beside)), greedily(sorted(beside, key=lambda site: (names[site], site)))]
    return min(ways, key=lambda colours: len(set(colours.values())))


def _walk(kernel: Kernel, whole: _Whole) -> None:
    """Follows every way through the program until nothing new is met at any place."""
    arriving: dict[int, _Registers] = {0: {}}
    waiting = {0}
    places, needed = set(kernel.labels.values()), whole.needed
    while waiting:
        at = min(waiting)
        waiting.discard(at)
        registers = dict(arriving[at])
        while at < len(kernel.instructions):
            _Work.steps += 1
            if _Work.steps > _MOST_STEPS:
                raise _TooLarge
            i = kernel.instructions[at]
            if i.opcode in ("bra", "ret", "exit"):
                whole.control = both(whole.control, _value(registers, i.guard))
                target = i.operands[0] if i.opcode == "bra" else None
                if isinstance(target, Symbol):
                    to = kernel.labels[target.name]
                    if _join(arriving, to, registers, needed[to]):
                        waiting.add(to)
                if i.guard is None:
                    break
            else:
                _follow(registers, whole, at, i)
            at += 1
            if at in places:
                if _join(arriving, at, registers, needed[at]):
                    waiting.add(at)
                break


def _join(arriving: dict[int, _Registers], at: int, registers: _Registers, needed: frozenset[str]) -> bool:
    """Adds what one more way brings to a place where some registers are still read; whether that is new."""
    known = arriving.get(at)
    registers = {name: parts for name, parts in registers.items() if name in needed}
    if known is None:
        arriving[at] = registers
        return True
    changed = False
    for name, parts in registers.items():
        old = known.get(name, (NOTHING,) * len(parts))
        if parts == old:
            continue
        new = tuple(_limited(a | b) for a, b in zip(old, parts, strict=True))
        if new != old:
            known[name] = new
            changed = True
    for name, old in known.items():  # where this way leaves nothing in a register, another may have
        if name not in registers and not all(part >= NOTHING for part in old):
            known[name] = tuple(_limited(part | NOTHING) for part in old)
            changed = True
    return changed


# -- one instruction -------------------------------------------------------------------------------


def _value(registers: _Registers, operand: Operand | None) -> Value:
    """All that an operand depends on."""
    if isinstance(operand, Register):
        found = NOTHING
        for part in dict.fromkeys(registers.get(operand.name, (NOTHING,))):
            found = both(found, part)
        return found
    if isinstance(operand, Not):
        return _value(registers, operand.register)
    if isinstance(operand, Address):
        return _value(registers, operand.base)
    if isinstance(operand, Vector):
        return _together(registers, operand.items)
    return NOTHING


def _together(registers: _Registers, operands: Iterable[Operand]) -> Value:
    """What depends on all of them; one that stands there twice counts once."""
    found = NOTHING
    for operand in dict.fromkeys(operands):
        found = both(found, _value(registers, operand))
    return found


def _part(registers: _Registers, operand: Operand, first: int, count: int) -> Value:
    """What `count` parts of an operand depend on; of a constant nothing."""
    if not isinstance(operand, Register):
        return _value(registers, operand)
    found = NOTHING
    for part in dict.fromkeys(registers.get(operand.name, ())[first : first + count]):
        found = both(found, part)
    return found


def _origin(whole: _Whole, operand: Operand | None) -> frozenset[str]:
    if isinstance(operand, Register):
        return whole.origins.get(operand.name, frozenset())
    if isinstance(operand, Address):
        return _origin(whole, operand.base)
    if isinstance(operand, Vector):
        return frozenset().union(*(_origin(whole, item) for item in operand.items))
    return frozenset()


def _set(registers: _Registers, to: Register, parts: list[Value], guard: Value | None) -> None:
    """Gives a register a value; under a guard it may have kept the old one."""
    count = max(to.bits // 16, 1)
    if len(parts) != count:
        whole = NOTHING
        for part in dict.fromkeys(parts):
            whole = both(whole, part)
        parts = [whole] * count
    if guard is not None:
        old = registers.get(to.name, (NOTHING,) * count)
        parts = [_limited(both(a | b, guard)) for a, b in zip(old, parts, strict=True)]
    if all(part == NOTHING for part in parts):
        registers.pop(to.name, None)  # what is missing depends on nothing
    else:
        registers[to.name] = tuple(parts)


def _follow(registers: _Registers, whole: _Whole, index: int, i: Instruction) -> None:
    guard = None if i.guard is None else _value(registers, i.guard)
    above = _together(registers, whole.under.get(index, ()))
    if not results_of(i):
        if i.opcode in ("st", "red", "stmatrix"):
            _store(registers, whole, index, i, both(guard or NOTHING, above))
        return
    to, sources = i.operands[0], i.operands[1:]
    for register in written(to):
        known = whole.origins.get(register.name, frozenset())
        whole.origins[register.name] = known.union(*(_origin(whole, s) for s in sources))
    if i.opcode == "ld":
        everything = _loaded(registers, whole, index, i, to, sources[0])
    elif i.opcode == "atom":
        _store(registers, whole, index, i, both(guard or NOTHING, above))
        everything = _clashing(both(whole.memory, _together(registers, sources)))
    elif i.opcode == "ldmatrix":
        everything = both(_foreign(whole.memory), _value(registers, sources[0]))
    elif i.opcode == "shfl":
        own = _value(registers, sources[0])
        everything = both(own | _foreign(own), _together(registers, sources[1:]))
    elif i.opcode in ("vote", "redux", "activemask", "elect"):
        everything = _clashing(_together(registers, sources))
    else:
        everything = _together(registers, sources)
    if is_approximate(i):
        for name, held in registers.items() if index in whole.loops else ():
            if any((index, False) in alternative for part in held for alternative in part):
                # What an earlier turn has left is another execution's.
                registers[name] = tuple(_staled(part, index) for part in held)
        everything = both(_staled(everything, index), frozenset({frozenset({(index, False)})}))
    parts = _moved(registers, i, index, to, sources)
    if parts is not None and above != NOTHING:
        parts = [both(part, above) for part in parts]
    if parts is None:
        everything = both(everything, above)
        for register in written(to):
            _set(registers, register, [everything], guard)
    elif isinstance(to, Register):
        _set(registers, to, parts, guard)
    elif isinstance(to, Vector):
        each = len(parts) // len(to.items)
        for k, item in enumerate(to.items):
            if isinstance(item, Register):
                _set(registers, item, parts[k * each : (k + 1) * each], guard)


def _staled(value: Value, index: int) -> Value:
    """The value, where an execution of the instruction becomes an earlier one."""
    return frozenset(
        frozenset((site, other or site == index) for site, other in alternative) for alternative in value
    )


def _moved(
    registers: _Registers, i: Instruction, index: int, to: Operand, sources: tuple[Operand, ...]
) -> list[Value] | None:
    """What the parts of a result depend on, where an instruction keeps them apart; None elsewhere."""
    if i.opcode == "mov":
        source = sources[0]
        bits = to.bits if isinstance(to, Register) else source.bits if isinstance(source, Register) else 32
        if isinstance(source, Vector):
            each = max(bits // 16 // len(source.items), 1)
            return [_value(registers, item) for item in source.items for _ in range(each)]
        if isinstance(source, Register) and (isinstance(to, Vector) or source.bits == bits):
            return list(registers.get(source.name, (NOTHING,) * max(source.bits // 16, 1)))
        return None
    if i.opcode == "cvt" and len(sources) == 2 and i.modifiers[-2:] in (("bf16x2", "f32"), ("f16x2", "f32")):
        return [_value(registers, sources[1]), _value(registers, sources[0])]
    if i.type in ("f16x2", "bf16x2") and i.opcode not in ("setp", "cvt", "set"):
        found = []
        for k in (0, 1):
            half = NOTHING
            for source in dict.fromkeys(sources):
                half = both(half, _part(registers, source, k, 1))
            if is_approximate(i):
                half = both(_staled(half, index), frozenset({frozenset({(index, False)})}))
            found.append(half)
        return found
    if i.type == "f32x2":
        low, high = NOTHING, NOTHING
        for source in dict.fromkeys(sources):
            low, high = both(low, _part(registers, source, 0, 2)), both(high, _part(registers, source, 2, 2))
        return [low, low, high, high]
    return None


def _is_private(i: Instruction) -> bool:
    """Whether an access is to what only this launch has."""
    return bool({"shared", "shared::cta", "local"} & set(i.modifiers)) or i.opcode in ("stmatrix", "ldmatrix")


def _loaded(
    registers: _Registers, whole: _Whole, index: int, i: Instruction, to: Operand, address: Operand
) -> Value:
    assert isinstance(address, Address)
    found = _value(registers, address)
    if "param" in i.modifiers:
        name = address.base.name if isinstance(address.base, Symbol) else ""
        for register in written(to):
            known = whole.origins.get(register.name, frozenset())
            whole.origins[register.name] = known | ({name} & whole.pointers)
        return found
    if _is_private(i):
        return both(
            found, whole.memory | _foreign(whole.memory) if "local" in i.modifiers else _foreign(whole.memory)
        )
    origin = _origin(whole, address) if whole.points is None else whole.points.get(index, frozenset())
    whole.loads |= origin
    if not origin and "const" not in i.modifiers:
        whole.hidden |= not isinstance(address.base, Symbol)
    return both(found, _foreign(whole.memory)) if origin & whole.stores else found


def _store(registers: _Registers, whole: _Whole, index: int, i: Instruction, guard: Value) -> None:
    address = i.operands[1 if i.opcode == "atom" else 0]
    values = i.operands[2 if i.opcode == "atom" else 1 :]
    extra = both(guard, _value(registers, address))
    origin = _origin(whole, address) if whole.points is None else whole.points.get(index, frozenset())
    if not _is_private(i):
        whole.stores |= origin
        whole.hidden |= not origin
    for value in values:
        for item in value.items if isinstance(value, Vector) else (value,):
            parts = registers.get(item.name, (NOTHING,)) if isinstance(item, Register) else (NOTHING,)
            for part in dict.fromkeys(parts):
                found = both(part, extra)
                found = _clashing(found) if i.opcode in ("atom", "red") else found
                whole.memory = _limited(whole.memory | found)
                if not _is_private(i):
                    for parameter in origin or {""}:
                        whole.stored[parameter] = whole.stored.get(parameter, NOTHING) | found
