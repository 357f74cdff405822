"""Which approximate instructions a stored number depends on, read off the program.

What a device may return for one of them is a few numbers. All results that conforming devices may give are
then those of every combination of choices for the instructions that one stored number depends on.
Instructions that no stored number depends on together, such as those of the eight elements of one thread, are
chosen together.

The analysis only ever errs by naming too many: what is not followed (memory, bits moved about by shifts,
branches) counts as depending on all that went in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from precision_lab.emulator.ptx import (
    Address,
    Instruction,
    Kernel,
    Not,
    Operand,
    Pair,
    Register,
    Symbol,
    Vector,
)

APPROXIMATE = ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "tanh", "sin", "cos", "div")
_WITHOUT_RESULT = (
    "st",
    "red",
    "bra",
    "ret",
    "exit",
    "bar",
    "barrier",
    "fence",
    "membar",
    "prefetch",
    "stmatrix",
)
_CROSSING = ("shfl", "vote", "redux", "ldmatrix")  # what a lane gets from others
Sites = frozenset[int]
NONE: Sites = frozenset()
_CROSSED = -1  # among sites: a lane has it from another


def is_approximate(i: Instruction) -> bool:
    """Whether what it returns is the device's to choose, within the manual's bound."""
    return i.opcode in APPROXIMATE and ("approx" in i.modifiers or "full" in i.modifiers)


def operation(i: Instruction) -> str:
    """What an approximate instruction is called in `approximate`: "ex2.approx.f32" also where it flushes."""
    how = "full" if "full" in i.modifiers else "approx"
    return f"{i.opcode}.{how}.{i.type.removesuffix('x2')}"


@dataclass(frozen=True)
class Influence:
    """
    Attributes:
        colours: of each approximate instruction that something stored depends on, by index; two that one
            stored number depends on have different ones.
        loads, stores: parameters that addresses of loads and stores in global memory are made from.
        obstacles: of a parameter by which something is stored, why choosing one result for all threads and
            turns does not reach every combination there.
    """

    colours: Mapping[int, int]
    loads: frozenset[str]
    stores: frozenset[str]
    obstacles: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Of colours."""
        return max(self.colours.values(), default=-1) + 1


@dataclass
class _State:
    """What each register depends on, in parts of 16 bits, and what addresses are made from."""

    parts: dict[str, list[Sites]] = field(default_factory=dict)
    origins: dict[str, frozenset[str]] = field(default_factory=dict)
    memory: Sites = NONE  # all that was stored where this kernel may read it again
    control: Sites = NONE  # all that a branch was decided by
    stored: dict[Sites, set[str]] = field(default_factory=dict)  # and by which parameters
    loads: set[str] = field(default_factory=set)
    stores: set[str] = field(default_factory=set)


def influence(kernel: Kernel) -> Influence:
    """What a kernel's stored numbers depend on."""
    state = _State()
    before = None
    while before != (now := _size(state)):  # a loop's first turn depends on its last
        before = now
        state.stored.clear()
        for index, i in enumerate(kernel.instructions):
            _follow(state, kernel, index, i)
    loops, obstacles = _in_loops(kernel), {}
    for sites, parameters in state.stored.items():
        if _CROSSED in sites and len(sites) > 1:
            obstacles.update(dict.fromkeys(parameters, "threads combine approximate results"))
        elif repeated := loops & sites:
            words = f"{kernel.instructions[min(repeated)].name} is executed in a loop"
            obstacles.update(dict.fromkeys(parameters, words))
    groups = [sites - {_CROSSED} for sites in state.stored]
    return Influence(_coloured(groups), frozenset(state.loads), frozenset(state.stores), obstacles)


def _size(state: _State) -> tuple[int, ...]:
    """Grows with every new dependence."""
    registers = sum(len(p) for parts in state.parts.values() for p in parts)
    return (
        len(state.parts), registers, sum(map(len, state.origins.values())), len(state.memory),
        len(state.control), len(state.loads) + len(state.stores),
    )  # fmt: skip


def _coloured(groups: Iterable[Sites]) -> dict[int, int]:
    """Greedily, by index: enough colours, not always the fewest."""
    beside: dict[int, set[int]] = {}
    for group in groups:
        for site in group:
            beside.setdefault(site, set()).update(group - {site})
    colours: dict[int, int] = {}
    for site in sorted(beside):
        taken = {colours[other] for other in beside[site] if other in colours}
        colours[site] = next(c for c in range(len(taken) + 1) if c not in taken)
    return colours


def _in_loops(kernel: Kernel) -> Sites:
    """Instructions between a place and a branch back to it."""
    found: set[int] = set()
    for index, i in enumerate(kernel.instructions):
        if i.opcode == "bra" and isinstance(i.operands[0], Symbol):
            to = kernel.labels[i.operands[0].name]
            if to <= index:
                found.update(range(to, index + 1))
    return frozenset(found)


# -- one instruction -------------------------------------------------------------------------------


def _sites(state: _State, operand: Operand | None) -> Sites:
    """All that an operand depends on."""
    if isinstance(operand, Register):
        return frozenset().union(*state.parts.get(operand.name, [NONE]))
    if isinstance(operand, Not):
        return _sites(state, operand.register)
    if isinstance(operand, Address):
        return _sites(state, operand.base)
    if isinstance(operand, Vector):
        return frozenset().union(*(_sites(state, item) for item in operand.items))
    return NONE


def _part(state: _State, operand: Operand, first: int, count: int) -> Sites:
    """What `count` parts of an operand depend on; of a constant nothing."""
    if not isinstance(operand, Register):
        return _sites(state, operand)
    parts = state.parts.get(operand.name)
    return NONE if parts is None else frozenset().union(*parts[first : first + count])


def _origin(state: _State, operand: Operand | None) -> frozenset[str]:
    if isinstance(operand, Register):
        return state.origins.get(operand.name, frozenset())
    if isinstance(operand, Address):
        return _origin(state, operand.base)
    if isinstance(operand, Vector):
        return frozenset().union(*(_origin(state, item) for item in operand.items))
    return frozenset()


def _set(state: _State, to: Operand, parts: list[Sites], extra: Sites) -> None:
    """Adds to what a register depends on: it may have another value on another way, or under a guard."""
    if isinstance(to, Pair):
        _set(state, to.first, parts, extra)
        _set(state, to.second, parts, extra)
    elif isinstance(to, Vector):
        for item in to.items:
            _set(state, item, parts, extra)
    elif isinstance(to, Register):
        count = max(to.bits // 16, 1)
        if len(parts) != count:
            parts = [frozenset().union(*parts)] * count
        old = state.parts.get(to.name, [NONE] * count)
        state.parts[to.name] = [a | b | extra for a, b in zip(old, parts, strict=True)]


def _follow(state: _State, kernel: Kernel, index: int, i: Instruction) -> None:
    guard = _sites(state, i.guard)
    if i.opcode in ("bra", "ret", "exit"):
        state.control |= guard
        return
    if i.opcode in _WITHOUT_RESULT:
        if i.opcode in ("st", "red", "stmatrix"):
            _store(state, i, guard)
        return
    if not i.operands:
        return
    to, sources = i.operands[0], i.operands[1:]
    everything = frozenset().union(*(_sites(state, s) for s in sources)) if sources else NONE
    if i.opcode == "ld":
        _load(state, i, to, sources[0], guard)
        return
    if i.opcode == "atom":
        _store(state, i, guard)
        everything |= state.memory | {_CROSSED}
    elif i.opcode in _CROSSING:
        everything |= (state.memory if i.opcode == "ldmatrix" else NONE) | {_CROSSED}
    elif is_approximate(i):
        everything |= {index}
    for register in _written(to):
        state.origins[register.name] = state.origins.get(register.name, frozenset()).union(
            *(_origin(state, s) for s in sources)
        )
    _set(state, to, _moved(state, i, index, to, sources) or [everything], guard)


def _written(to: Operand) -> list[Register]:
    if isinstance(to, Pair):
        return [*_written(to.first), *_written(to.second)]
    if isinstance(to, Vector):
        return [r for item in to.items for r in _written(item)]
    return [to] if isinstance(to, Register) else []


def _moved(
    state: _State, i: Instruction, index: int, to: Operand, sources: tuple[Operand, ...]
) -> list[Sites] | None:
    """What the parts of a result depend on, where an instruction keeps them apart; None elsewhere."""
    if i.opcode == "mov":
        if isinstance(to, Vector):
            whole = sources[0]
            size = (whole.bits if isinstance(whole, Register) else 32) // 16 // len(to.items)
            for k, item in enumerate(to.items):
                _set(state, item, [_part(state, whole, k * size, size)], NONE)
            return [NONE]
        if isinstance(sources[0], Vector):
            items = sources[0].items
            bits = to.bits if isinstance(to, Register) else 32
            return [_sites(state, item) for item in items for _ in range(bits // 16 // len(items))]
        source = sources[0]
        if isinstance(source, Register) and isinstance(to, Register) and source.bits == to.bits:
            return list(state.parts.get(source.name, [NONE] * max(to.bits // 16, 1)))
        return None
    if (
        i.opcode == "cvt"
        and len(sources) == 2
        and i.modifiers[-1] == "f32"
        and i.modifiers[-2] in ("bf16x2", "f16x2")
    ):
        return [_sites(state, sources[1]), _sites(state, sources[0])]
    if i.type in ("f16x2", "bf16x2") and i.opcode not in ("setp", "cvt", "set"):
        own = {index} if is_approximate(i) else set()
        return [frozenset().union(own, *(_part(state, s, k, 1) for s in sources)) for k in (0, 1)]
    if i.type == "f32x2":
        low, high = (frozenset().union(*(_part(state, s, 2 * k, 2) for s in sources)) for k in (0, 1))
        return [low, low, high, high]
    return None


def _load(state: _State, i: Instruction, to: Operand, address: Operand, guard: Sites) -> None:
    if "param" in i.modifiers:
        assert isinstance(address, Address)
        name = address.base.name if isinstance(address.base, Symbol) else ""
        for register in _written(to):
            state.origins[register.name] = state.origins.get(register.name, frozenset()) | {name}
        _set(state, to, [NONE], guard)
        return
    state.loads |= _origin(state, address)
    found = _sites(state, address)
    if "shared" in i.modifiers:
        found |= state.memory | {_CROSSED}
    elif _origin(state, address) & state.stores or "local" in i.modifiers:
        found |= state.memory
    _set(state, to, [found], guard)


def _store(state: _State, i: Instruction, guard: Sites) -> None:
    atomic = i.opcode in ("atom", "red")
    address = i.operands[1 if i.opcode == "atom" else 0]
    values = i.operands[(2 if i.opcode == "atom" else 1) :]
    extra = guard | state.control | _sites(state, address)
    for value in values:
        items = value.items if isinstance(value, Vector) else (value,)
        for item in items:
            parts = state.parts.get(item.name, [NONE]) if isinstance(item, Register) else [NONE]
            for part in parts:
                state.memory |= part | extra
                if "shared" not in i.modifiers and "local" not in i.modifiers:
                    sites = part | extra | ({_CROSSED} if atomic else NONE)
                    state.stored.setdefault(sites, set()).update(_origin(state, address))
    if "shared" not in i.modifiers and "local" not in i.modifiers:
        state.stores |= _origin(state, address)
