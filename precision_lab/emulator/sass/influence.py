"""Which approximate instructions of machine code a stored number depends on, in the terms of `influence`.

The kernel is written anew in the records of PTX, as far as they say who depends on whom. What an instruction
reads and writes is noted while its own step is executed once, by no thread: there is no second table of
operands. Subroutines are put where they are called. What a branch decides is followed as far as its ways
part: a register that one of them writes depends on the branch where they meet again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from precision_lab.emulator import bounds
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.influence import Influence, influence
from precision_lab.emulator.launch import Launch
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Address, Instruction, Kernel, Operand, Register, Symbol, Vector
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.reference.machine import Machine
from precision_lab.emulator.reference.spaces import Order, Owners, block_space, global_space
from precision_lab.emulator.sass import code as sass
from precision_lab.emulator.sass.code import EMPTY, SassInstruction, SassKernel, pointer_name
from precision_lab.emulator.sass.floats import MUFU, is_half
from precision_lab.emulator.sass.lanes import LOCAL_BYTES, SassLanes
from precision_lab.emulator.sass.program import build

_DEPTH = 3  # of subroutines within each other
_ANY = Register("%any", 1)  # a predicate of which nothing is known
_STRUCTURE = ("BSSY", "BSYNC", "BREAK", "WARPSYNC", "BAR", "NOP")
_SHARED_RESULTS = ("STS", "STL", "ATOMG", "RED", "REDG")
_HALVES = {0x10: 0, 0x32: 1, 0x54: 2, 0x76: 3}

_Key: TypeAlias = tuple[str, int]
Place: TypeAlias = tuple[tuple[int, ...], int]  # calls that led there, and the instruction


@dataclass
class _Made:
    """The records, and what `influence` is told of them."""

    kernel: Kernel
    origins: list[int]
    under: dict[int, tuple[Register, ...]]
    points: dict[int, frozenset[str]]
    places: list[tuple[int, _Row | None]]  # of each record, its block and what it was made from
    blocks: _Blocks

    def exclude(self, one: int, other: int) -> bool:
        """Whether no thread executes both of two records."""
        (a, first), (b, second) = self.places[one], self.places[other]
        if a != b:
            return not (self.blocks.reach(a) >> b & 1 or self.blocks.reach(b) >> a & 1)
        if first is None or second is None or self.blocks.reach(a) >> a & 1:
            return False
        return _excludes(first.guard, second.guard) and self.blocks.is_kept(a, first, second)


class _NotFollowed(Exception):
    """Who goes where is not read off the program."""


def is_approximate(i: SassInstruction) -> bool:
    return i.opcode == "MUFU"


def operation(i: SassInstruction) -> str:
    """The PTX instruction of `bounds` whose bound is taken for one of MUFU; "" for any other."""
    name = next((m for m in i.modifiers if m in MUFU), "")
    if i.opcode != "MUFU" or not name:
        return ""
    return bounds.operation(ptx_name(i))


def ptx_name(i: SassInstruction) -> str:
    """What ptxas makes one of MUFU of, such as "ex2.approx.ftz.f32"."""
    return ".".join(_approximate(i))


def _approximate(i: SassInstruction) -> tuple[str, ...]:
    name = next(m for m in i.modifiers if m in MUFU)
    kind = "f16" if is_half(i) else "f64" if name.endswith("64H") else "f32"
    return MUFU[name], "approx", *([] if kind == "f16" else ["ftz"]), kind


def influence_of(kernel: SassKernel, pointers: frozenset[str]) -> Influence:
    """As `influence.influence`; colours are by index in the machine code.

    Args:
        pointers: by `pointer_name`.
    """
    try:
        made = _Translation(kernel, pointers).made()
    except _NotFollowed as error:
        approximate = any(is_approximate(i) for i in kernel.code)
        return Influence({}, pointers, pointers, dict.fromkeys(pointers, str(error)) if approximate else {},
                         True)  # fmt: skip
    return influence(
        made.kernel, pointers, origins=made.origins, under=made.under, points=made.points,
        exclude=made.exclude,
    )  # fmt: skip


# -- what an instruction reads and writes ----------------------------------------------------------


@dataclass
class _Use:
    """
    Attributes:
        reads: each register with the operand that names it.
        words: bytes of constant bank 0 where a word is read.
        any_word: a word of a bank is read that a register chooses.
    """

    reads: list[tuple[sass.Operand, _Key]] = field(default_factory=list)
    writes: list[_Key] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    any_word: bool = False


class _Noting(SassLanes):
    """Lanes of no thread, which note what is asked of them."""

    use: _Use

    def bits(self, i: SassInstruction, o: sass.Operand, next_: int = 0) -> Array:
        if o.kind in ("R", "UR") and o.number != EMPTY:
            self.use.reads.append((o, (o.kind, o.number + next_)))
        return super().bits(i, o, next_)

    def truth(self, i: SassInstruction, o: sass.Operand) -> Array:
        if o.kind in ("P", "UP") and o.number != EMPTY:
            self.use.reads.append((o, (o.kind, o.number)))
        return super().truth(i, o)

    def constant(self, i: SassInstruction, o: sass.Operand, size: int, more: int = 0) -> Array:
        if o.base is not None:
            self.use.any_word = True
            self.bits(i, o.base)
            return np.zeros((1, size), np.uint8)  # which word it is a launch decides
        if o.bank == 0:
            self.use.words += range((o.number + more) // 4 * 4, o.number + more + size, 4)
        return super().constant(i, o, size, more)

    def put(self, i: SassInstruction, o: sass.Operand, value: Array, live: Mask, next_: int = 0) -> None:
        if o.is_register and o.number != EMPTY:
            self.use.writes.append((o.kind, o.number + next_))
        super().put(i, o, value, live, next_)


class _Uses:
    """Of each instruction of a kernel."""

    def __init__(self, kernel: SassKernel) -> None:
        block = kernel.block or (32, 1, 1)
        launch = Launch(kernel, (1, 1, 1), block, tuple(bytes(p.size) for p in kernel.parameters))
        memory = Memory.reserve(1 << 16)
        owners = Owners(memory.size)
        self._lanes = lanes = _Noting(launch, 0, 1)
        lanes.machine = Machine(
            b"", {},
            {
                "global": global_space(memory, owners),
                "shared": block_space("shared", 0, kernel.shared_bytes + 4, 1, marked=True),
                "local": block_space("local", 0, LOCAL_BYTES, lanes.n, marked=False),
            },
            Order(lanes, owners.reserve(0)),
        )  # fmt: skip
        self._none = np.zeros(lanes.n, bool)

    def of(self, i: SassInstruction) -> _Use:
        """
        Raises:
            Unsupported: it is not emulated; nobody gets beyond it.
        """
        self._lanes.use = use = _Use()
        self._lanes.registers.clear()
        with np.errstate(all="ignore"):
            build(i)(self._lanes, self._none)
        return use


# -- the kernel in records of PTX ------------------------------------------------------------------


@dataclass
class _Row:
    """An instruction in the making.

    Attributes:
        index: in the machine code.
        to: where a branch goes; None elsewhere.
        decides: the predicate by which it is taken or not; None for always.
        made: what it comes to; several where halves of a register are moved apart.
    """

    index: int
    kind: str  # "bra", "exit" or "op"
    to: Place | None = None
    decides: Register | None = None
    made: list[Instruction] = field(default_factory=list)
    writes: list[Register] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    points: frozenset[str] = frozenset()  # pointers that it reads
    address: Register | None = None
    at: list[str] = field(default_factory=list)  # registers that the address is made of
    guard: str = ""  # the predicate that must hold, with ! before its contrary
    lumped: bool = False  # what is stored for other threads, or for another time, is followed as a whole

    def needs(self) -> set[str]:
        """The registers that it reads, predicates among them."""
        decides = [self.decides.name] if self.decides is not None else []
        return {*self.reads, *decides, *([self.guard.lstrip("!")] if self.guard else [])}


def _forgotten(register: str, guard: str, rows: Sequence[_Row], ways: Sequence[frozenset[str]]) -> bool:
    """Whether nobody reads what a register had where the guard does not hold.

    Args:
        rows: what follows up to the next branch, this included.
        ways: registers that are read where the branch leads, and where it is not taken.
    """
    same = True  # the predicate is still what it was
    for row in rows:
        if register in row.needs() and not (same and row.guard == guard):
            return False
        writes = {w.name for w in row.writes}
        if register in writes and (not row.guard or (same and _excludes(row.guard, guard))):
            return True
        same = same and guard.lstrip("!") not in writes
    decided = rows[-1].guard if rows and rows[-1].kind != "op" else ""
    if same and len(ways) == 2 and decided == guard:
        ways = ways[1:]  # where the branch leads the guard holds
    elif same and len(ways) == 2 and decided and _excludes(decided, guard):
        ways = ways[:1]
    return not any(register in way for way in ways)


class _Translation:
    def __init__(self, kernel: SassKernel, pointers: frozenset[str]) -> None:
        self._kernel, self._uses = kernel, _Uses(kernel)
        self._words: dict[int, str] = {}  # of constant bank 0: which pointer lies there
        for p in kernel.parameters:
            for offset in range(0, p.size, 4):
                for name in {pointer_name(p.name, offset), pointer_name(p.name, offset - 4)} & pointers:
                    self._words[kernel.parameter_base + p.offset + offset] = name
        self._rows: list[_Row] = []
        self._at: dict[Place, int] = {}
        self._names = 0

    def made(self) -> _Made:
        """The kernel anew.

        Raises:
            _NotFollowed: a way is not seen.
        """
        self._emit((), range(len(self._kernel.code)))
        blocks = _Blocks(self._rows, self._at)
        return self._written(blocks)

    # -- ways, with subroutines where they are called --------------------------------------------

    def _emit(self, context: tuple[int, ...], indexes: Iterable[int]) -> None:
        called = self._called() if not context else frozenset()
        for index in indexes:
            if index in called:
                continue
            self._at[context, index] = len(self._rows)
            i = self._kernel.code[index]
            if i.opcode in _STRUCTURE:
                continue
            decides = self._decides(i)
            if i.opcode == "BRA":
                label = i.arguments[-1]
                if label.kind != "label":
                    raise _NotFollowed("a branch to where a register says is not followed")
                more = [o for o in i.arguments[:-1] if o.kind in ("P", "UP") and o.number != EMPTY]
                if set(i.modifiers) & {"DIV", "CONV"}:
                    decides = decides or _ANY
                guard = "" if more or decides is _ANY else _guard(i)
                if more:
                    decides = self._together(index, [*([decides] if decides else []), *map(_named, more)])
                to = context, self._index(label.number)
                self._rows.append(_Row(index, "bra", to, decides, guard=guard))
            elif i.opcode == "EXIT":
                self._rows.append(_Row(index, "exit", None, decides, guard=_guard(i)))
            elif i.opcode == "RET":
                if not context:
                    raise _NotFollowed("a return from what nobody has called is not followed")
                self._rows.append(_Row(index, "bra", (context[:-1], context[-1] + 1), decides))
            elif i.opcode == "CALL":
                self._call(context, index, i, decides)
            else:
                self._rows.append(self._operation(index, i))

    def _call(
        self, context: tuple[int, ...], index: int, i: SassInstruction, decides: Register | None
    ) -> None:
        label = i.arguments[-1]
        if label.kind != "label" or len(context) >= _DEPTH:
            raise _NotFollowed("a call of what a register says, or of itself, is not followed")
        address = self._kernel.code[index].line + 16
        known = (o.number for j in self._kernel.code for o in j.arguments if o.kind == "number")
        if address not in known:
            raise _NotFollowed("where a subroutine returns to is not seen")
        if decides is not None:
            self._rows.append(_Row(index, "bra", (context, index + 1), decides))
        entry = self._index(label.number)
        inside = (*context, index)
        reached = sorted(self._reached(entry))
        if reached[0] != entry:
            self._rows.append(_Row(index, "bra", (inside, entry)))
        self._emit(inside, reached)

    def _reached(self, entry: int) -> set[int]:
        """The instructions of a subroutine."""
        found: set[int] = set()
        waiting = [entry]
        while waiting:
            at = waiting.pop()
            if at in found or at >= len(self._kernel.code):
                continue
            found.add(at)
            i = self._kernel.code[at]
            always = i.predicate is None
            if i.opcode == "BRA" and i.arguments[-1].kind == "label":
                waiting.append(self._index(i.arguments[-1].number))
                always = always and len(i.arguments) == 1 and not i.modifiers
            if i.opcode not in ("BRA", "RET", "EXIT") or not always:
                waiting.append(at + 1)
        return found

    def _together(self, index: int, predicates: Sequence[Register]) -> Register:
        """What a branch is decided by that asks for several."""
        self._names += 1
        to = Register(f"%both{self._names}", 1)
        row = _Row(index, "op", writes=[to])
        row.made.append(Instruction("combined", (), (to, *predicates), None, 0, None, ""))
        self._rows.append(row)
        return to

    def _called(self) -> frozenset[int]:
        """What belongs to subroutines alone."""
        main = self._reached(0)
        return frozenset(range(len(self._kernel.code))) - main

    def _index(self, address: int) -> int:
        while address not in self._kernel.at:
            address += 16
            if address > self._kernel.code[-1].line:
                raise _NotFollowed("a branch to where no instruction is")
        return self._kernel.at[address]

    @staticmethod
    def _decides(i: SassInstruction) -> Register | None:
        p = i.predicate
        if p is None or (p.number == EMPTY and not p.inverted):
            return None
        return _ANY if p.number == EMPTY else _named(p)

    # -- one instruction -------------------------------------------------------------------------

    def _operation(self, index: int, i: SassInstruction) -> _Row:
        try:
            use = self._uses.of(i)
        except Unsupported:  # whoever comes here ends the launch
            return _Row(index, "exit", None, self._decides(i), guard=_guard(i))
        guard = self._decides(i)
        row = _Row(index, "op", lumped=i.opcode in _SHARED_RESULTS)
        row.writes = [_register(key) for key in dict.fromkeys(use.writes)]
        row.reads = [_register(key).name for _, key in use.reads]
        row.guard = _guard(i)
        reads: list[Operand] = [_register(key) for _, key in use.reads]
        words = list(self._words) if use.any_word else [w for w in use.words if w in self._words]
        row.points = frozenset(self._words[w] for w in words)

        def made(opcode: str, modifiers: tuple[str, ...], *operands: Operand) -> None:
            row.made.append(Instruction(opcode, modifiers, operands, guard, i.line, None, i.text))

        to: Operand = row.writes[0] if len(row.writes) == 1 else Vector(tuple(row.writes))
        name = i.opcode.removeprefix("U") if i.opcode in ("UMOV", "UPRMT") else i.opcode
        if name in ("LDG", "LDS", "LDL", "STG", "STS", "STL", "ATOMG", "RED", "REDG"):
            self._access(i, use, row, made)
        elif not row.writes:
            pass
        elif i.opcode == "MUFU" and i.arguments[1].kind == "number":
            made("mov", ("b32",), to, Symbol("nothing"))  # of a NaN, which gives NaN on every device
        elif i.opcode == "MUFU":
            opcode, *modifiers = _approximate(i)
            made(opcode, tuple(modifiers), to, *reads)
        elif i.opcode == "SHFL":
            made("shfl", ("sync",), to, *reads)
        elif i.opcode == "VOTE":
            made("vote", ("sync",), to, *reads)
        elif len(reads) == 1 and (name == "MOV" or (name == "IMAD" and "MOV" in i.modifiers)):
            made("mov", ("b32",), to, *reads[:1])
        elif name == "F2FP" and i.modifiers[-1] == "PACK_AB" and set(i.modifiers) & {"BF16", "F16"}:
            given = [[_register(key) for o, key in use.reads if o is a] for a in i.arguments[1:3]]
            halves_of = [each[0] if each else Symbol("nothing") for each in given]
            made("cvt", ("rn", "bf16x2", "f32"), to, *halves_of)
        elif len(row.writes) == 1 and (halves := _halves(i, use)):
            made("mov", ("b32",), to, Vector(halves))
            row.made[:0] = [
                Instruction("mov", ("b32",), (Vector(_split(r)), r), None, i.line, None, i.text)
                for r in dict.fromkeys(_register(key) for _, key in use.reads)
            ]
        else:
            made("combined", (), to, *reads)
        return row

    def _access(self, i: SassInstruction, use: _Use, row: _Row, made: Any) -> None:
        """Of memory: by the registers that make the address, and those of what is stored."""
        address = next(o for o in i.arguments if o.kind == "address")
        parts = [p for p in (address.base, address.uniform) if p is not None]
        at = [_register(key) for o, key in use.reads if any(o is p for p in parts)]
        values = [_register(key) for o, key in use.reads if not any(o is p for p in parts)]
        self._names += 1
        base = row.address = Register(f"%address{self._names}", 64)
        row.at = [r.name for r in at]
        row.made.append(Instruction("combined", (), (base, *at), None, i.line, None, i.text))
        space = {"G": "global", "S": "shared", "L": "local"}.get(i.opcode[2], "global")
        where = Address(base, 0)
        if i.opcode[:2] == "LD":
            made("ld", (space, "b32"), Vector(tuple(row.writes)), where)
        elif i.opcode[:2] == "ST":
            made("st", (space, "b32"), where, Vector(tuple(values)))
        elif row.writes:
            made("atom", (space, "b32"), row.writes[0], where, Vector(tuple(values)))
        else:
            made("red", (space, "b32"), where, Vector(tuple(values)))

    # -- all of them -----------------------------------------------------------------------------

    def _written(self, blocks: _Blocks) -> _Made:
        origins_of, (whole, live), valid = blocks.origins(), blocks.whole(), blocks.valid()
        instructions: list[Instruction] = []
        origins: list[int] = []
        points: dict[int, frozenset[str]] = {}
        places: list[tuple[int, _Row | None]] = []
        under: dict[int, tuple[Register, ...]] = {}
        labels: dict[str, int] = {}

        def write(i: Instruction, index: int, controls: Sequence[Register] = ()) -> None:
            if controls:
                under[len(instructions)] = tuple(controls)
            instructions.append(i)
            origins.append(index)
            places.append((len(labels) - 1, row))

        row: _Row | None = None
        for k, (first, last) in enumerate(blocks.edges):
            row = None
            labels[f"L{k}"] = len(instructions)
            controls = [_taken(c) for c in sorted(blocks.under[k])]
            for c in blocks.meeting[k]:
                outer = [r for r in controls if r != _taken(c)]
                for register in blocks.written(c):
                    if register.name not in live[k]:
                        continue
                    moved = Instruction("mov", ("b32",), (register, register), None, 0, None, "")
                    write(moved, -1, [*outer, _taken(c)])
            kept = set(valid[k])
            for row in self._rows[first:last]:
                if row.kind == "op":
                    for i in _apart(row, kept):
                        if row.address is not None:
                            points[len(instructions)] = origins_of.get(id(row), frozenset())
                        if i.guard is not None and id(row) in whole:
                            assert isinstance(i.guard, Register)
                            write(replace(i, guard=None), row.index, [*controls, i.guard])
                        else:
                            write(i, row.index, controls)
                    _keep(kept, row)
                    continue
                guard = row.decides
                if guard is not None and not blocks.lumped[k]:
                    mark = Instruction("mov", ("b32",), (_taken(k), guard), None, 0, None, "")
                    write(mark, row.index, controls)
                    guard = _ANY
                target = blocks.place(row.to) if row.to is not None else len(blocks.edges)
                operand = (Symbol(f"L{target}"),) if row.kind == "bra" else ()
                write(Instruction(row.kind, (), operand, guard, 0, None, ""), row.index)
        labels[f"L{len(blocks.edges)}"] = len(instructions)
        name, parameters = self._kernel.name, self._kernel.parameters
        kernel = Kernel(name, parameters, tuple(instructions), labels)
        return _Made(kernel, origins, under, points, places, blocks)


def _keep(kept: set[tuple[str, str]], row: _Row) -> None:
    """What a row leaves of the registers that were written last where a predicate holds that still does."""
    for w in row.writes:
        changed = {
            key for key in kept
            if (key[0] == w.name and not _excludes(key[1], row.guard)) or key[1].lstrip("!") == w.name
        }  # fmt: skip
        kept -= changed
        if row.guard and row.guard.lstrip("!") != w.name:
            kept.add((w.name, row.guard))


def _apart(row: _Row, kept: set[tuple[str, str]]) -> Iterator[Instruction]:
    """The row's instructions, with what is written and read under one predicate in registers of its own.

    There is nothing in these of what the register held where the predicate does not hold.
    """
    if not row.guard:
        yield from row.made
        return

    def own(name: str) -> str:
        return f"{name} where {row.guard}"

    def read(o: Operand) -> Operand:
        if isinstance(o, Register) and (o.name, row.guard) in kept:
            return Register(own(o.name), o.bits)
        return Vector(tuple(map(read, o.items))) if isinstance(o, Vector) else o

    written = {w.name for w in row.writes}

    def renamed(o: Operand) -> Operand:
        if isinstance(o, Register) and o.name in written:
            return Register(own(o.name), o.bits)
        return Vector(tuple(map(renamed, o.items))) if isinstance(o, Vector) else o

    guard = next((i.guard for i in row.made if i.guard is not None), None)
    for i in row.made:
        first, rest = i.operands[:1], tuple(map(read, i.operands[1:]))
        to = first if i.opcode in ("st", "red") else tuple(map(renamed, first))
        if to == first:
            yield replace(i, operands=(*first, *rest))
            continue
        # The predicate is none of its operands: where it does not hold nobody reads this register.
        yield replace(i, operands=(*to, *rest), guard=None)
    for w in row.writes:
        named = Register(own(w.name), w.bits)
        yield Instruction("mov", ("b32",), (w, named), guard, 0, None, "")


def _guard(i: SassInstruction) -> str:
    p = i.predicate
    return "" if p is None or p.number == EMPTY else "!" * p.inverted + _named(p).name


def _named(o: sass.Operand) -> Register:
    return _register((o.kind, o.number))


def _register(key: _Key) -> Register:
    return Register(f"{key[0]}{key[1]}", 1 if key[0] in ("P", "UP") else 32)


def _split(register: Register) -> tuple[Register, Register]:
    return Register(f"{register.name}.low", 16), Register(f"{register.name}.high", 16)


def _taken(block: int) -> Register:
    """What the branch at the end of a block was decided by."""
    return Register(f"%taken{block}", 1)


class _Pointing:
    """Which pointers registers may be made from; what was written under a predicate apart."""

    def __init__(self) -> None:
        self._always: dict[str, frozenset[str]] = {}
        self._under: dict[tuple[str, str], frozenset[str]] = {}

    def copy(self) -> _Pointing:
        made = _Pointing()
        made._always, made._under = dict(self._always), dict(self._under)
        return made

    def read(self, register: str, guard: str) -> frozenset[str]:
        known = self._under.get((register, guard)) if guard else None
        return self._always.get(register, frozenset()) if known is None else known

    def write(self, register: str, points: frozenset[str], guard: str) -> None:
        stale = [key for key in self._under
                 if (key[0] == register and key[1] != guard) or key[1].lstrip("!") == register]  # fmt: skip
        for key in stale:
            if not guard or key[1].lstrip("!") == register or not _excludes(key[1], guard):
                del self._under[key]
        if guard:
            self._under[register, guard] = points
            points = points | self._always.get(register, frozenset())
        else:
            self._under.pop((register, guard), None)
        self._always[register] = points

    def join(self, other: _Pointing) -> bool:
        """Adds what another way brings; whether that is new."""
        changed = False
        for register, points in other._always.items():
            now = self._always.get(register, frozenset()) | points
            changed |= now != self._always.get(register)
            self._always[register] = now
        for key in list(self._under):
            points = self._under[key] | other.read(*key)
            changed |= points != self._under[key]
            self._under[key] = points
        return changed


def _excludes(one: str, other: str) -> bool:
    """Whether two guards are a predicate and its contrary."""
    return one != other and one.lstrip("!") == other.lstrip("!")


def _halves(i: SassInstruction, use: _Use) -> tuple[Operand, ...]:
    """What an instruction moves as whole halves, the lower one first; nothing where it does more."""
    name = i.opcode.removeprefix("U")
    if name not in ("PRMT", "SHF", "IMAD") or len(i.arguments) != 4:
        return ()
    _, low, by, high = i.arguments
    if by.kind != "number" or low.negative or low.absolute or low.inverted:
        return ()

    def half(source: sass.Operand, k: int) -> Operand:
        keys = [key for o, key in use.reads if o is source]
        return _split(_register(keys[0]))[k] if keys else Symbol("nothing")

    if name == "PRMT":
        chosen = [_HALVES.get(byte) for byte in (by.number & 0xFF, by.number >> 8 & 0xFF)]
        if any(k is None for k in chosen):
            return ()
        return tuple(half(low if k < 2 else high, k % 2) for k in chosen if k is not None)
    upwards = by.number == 16 and i.modifiers == ("L", "U32") if name == "SHF" else by.number == 1 << 16
    if not upwards or high.number != EMPTY or set(i.modifiers) - {"L", "U32", "SHL"}:
        return ()
    return Symbol("nothing"), half(low, 0)


class _Blocks:
    """Stretches without a branch, and which branch each of them stands under.

    Attributes:
        edges: the first row of each and the first behind it.
        under: of each, the blocks whose branch decides whether it is reached.
        meeting: of each, the blocks whose ways meet there again.
        lumped: of each, whether between its branch and that place something is stored for others.
    """

    def __init__(self, rows: Sequence[_Row], at: Mapping[Place, int]) -> None:
        self._rows, self._at = rows, at
        self._reach: list[int] = []
        begins = {0, len(rows)} | {self._row(r.to) for r in rows if r.to is not None}
        begins |= {k + 1 for k, r in enumerate(rows) if r.kind != "op"}
        ordered = sorted(begins)
        self.edges = list(itertools.pairwise(ordered))
        self._of = {first: k for k, (first, _) in enumerate(self.edges)}
        self._of[len(rows)] = len(self.edges)
        self._next = [self._after(k) for k in range(len(self.edges))]
        meets = self._post_dominators()
        self.under: list[set[int]] = [set() for _ in self.edges]
        self.meeting: list[list[int]] = [[] for _ in range(len(self.edges) + 1)]
        self._regions: dict[int, set[int]] = {}
        self.lumped = [False] * len(self.edges)
        for k, following in enumerate(self._next):
            if len(set(following)) < 2:
                continue
            region = self._region(following, meets[k])
            self._regions[k] = region
            self.lumped[k] = any(r.lumped for b in region for r in self._rows_of(b))
            if self.lumped[k]:
                continue
            for b in region:
                self.under[b].add(k)
            self.meeting[meets[k]].append(k)

    def place(self, to: Place) -> int:
        return self._of[self._row(to)]

    def written(self, branch: int) -> list[Register]:
        """The registers that are written before its ways meet again."""
        found = (w for b in sorted(self._regions[branch]) for r in self._rows_of(b) for w in r.writes)
        return list(dict.fromkeys(found))

    def origins(self) -> dict[int, frozenset[str]]:
        """Of each access, by its row's identity: pointers that its address may be made from.

        Registers are used anew for other things, so that this is followed along the ways. What is written
        where a predicate holds is what is read where the same one does.
        """
        before: list[_Pointing | None] = [None for _ in self.edges]
        before[0] = _Pointing()
        found: dict[int, frozenset[str]] = {}
        waiting = {0}
        while waiting:
            k = min(waiting)
            waiting.discard(k)
            arriving = before[k]
            assert arriving is not None
            held = arriving.copy()
            for row in self._rows_of(k):
                if row.address is not None:
                    found[id(row)] = row.points.union(*(held.read(r, row.guard) for r in row.at))
                    made: frozenset[str] = frozenset()  # what is loaded is no parameter
                else:
                    made = row.points.union(*(held.read(r, row.guard) for r in row.reads))
                for to in row.writes:
                    held.write(to.name, made, row.guard)
            for following in self._next[k]:
                if following < len(self.edges):
                    there = before[following]
                    if there is None:
                        before[following] = held.copy()
                        waiting.add(following)
                    elif there.join(held):
                        waiting.add(following)
        return found

    def valid(self) -> list[set[tuple[str, str]]]:
        """Of each block, registers that were written last where a predicate holds which is still the same."""
        before: list[set[tuple[str, str]] | None] = [None for _ in self.edges]
        before[0] = set()
        waiting = {0}
        while waiting:
            k = min(waiting)
            waiting.discard(k)
            kept = set(before[k] or ())
            for row in self._rows_of(k):
                _keep(kept, row)
            for following in self._next[k]:
                if following < len(self.edges):
                    old = before[following]
                    now = kept if old is None else old & kept
                    if old is None or now != old:
                        before[following] = set(now)
                        waiting.add(following)
        return [found or set() for found in before]

    def whole(self) -> tuple[set[int], list[frozenset[str]]]:
        """The rows, by identity, under a predicate that leave nothing of what was in their registers before.

        Nobody reads it any more: they are written under the contrary, too, or read under the same alone.
        Beside them, the registers that are still read of each block and of the end.
        """
        found: set[int] = set()
        before = -1
        while before < len(found):  # what one leaves behind nobody reads is known once another's is
            before = len(found)
            live = self._live(found)
            for k in range(len(self.edges)):
                rows = self._rows_of(k)
                ways = [live[n] for n in self._next[k]]
                found |= {
                    id(row) for at, row in enumerate(rows)
                    if row.guard and row.writes and row.address is None
                    and all(_forgotten(w.name, row.guard, rows[at + 1 :], ways) for w in row.writes)
                }  # fmt: skip
        return found, self._live(found)

    def _live(self, whole: set[int]) -> list[frozenset[str]]:
        """Registers that are read before they are written, of each block and of the end."""
        live: list[frozenset[str]] = [frozenset() for _ in range(len(self.edges) + 1)]
        changed = True
        while changed:
            changed = False
            for k in range(len(self.edges) - 1, -1, -1):
                now = set().union(*(live[n] for n in self._next[k]))
                for row in reversed(self._rows_of(k)):
                    if not row.guard or id(row) in whole:
                        now -= {w.name for w in row.writes}
                    now |= row.needs()
                changed |= now != live[k]
                live[k] = frozenset(now)
        return live

    def _rows_of(self, block: int) -> Sequence[_Row]:
        return self._rows[slice(*self.edges[block])]

    def _row(self, to: Place) -> int:
        context, index = to
        known = [i for c, i in self._at if c == context and i >= index]
        if (context, index) in self._at:
            return self._at[to]
        if not known:
            return len(self._rows)
        raise _NotFollowed("a branch into another subroutine is not followed")

    def _after(self, block: int) -> list[int]:
        last = self._rows[self.edges[block][1] - 1]
        following = block + 1
        if last.kind == "op":
            return [following]
        target = self.place(last.to) if last.to is not None else len(self.edges)
        return [target] if last.decides is None else [target, following]

    def reach(self, block: int) -> int:
        """The blocks that come after one, in bits; itself in a loop."""
        if not self._reach:
            self._reach = [0] * len(self.edges)
            changed = True
            while changed:
                changed = False
                for k in range(len(self.edges) - 1, -1, -1):
                    now = self._reach[k]
                    for n in self._next[k]:
                        now |= 1 << n | (self._reach[n] if n < len(self.edges) else 0)
                    changed |= now != self._reach[k]
                    self._reach[k] = now
        return self._reach[block]

    def is_kept(self, block: int, one: _Row, other: _Row) -> bool:
        """Whether the predicate of two rows of a block is the same between them."""
        rows = list(self._rows_of(block))
        at = sorted(k for k, row in enumerate(rows) if row is one or row is other)
        predicate = one.guard.lstrip("!")
        return not any(w.name == predicate for row in rows[at[0] : at[-1]] for w in row.writes)

    def _post_dominators(self) -> list[int]:
        """Of each block the next one that every way from it comes through; the last number is the end."""
        end = len(self.edges)
        every = (1 << (end + 1)) - 1
        through = [every] * end + [1 << end]
        changed = True
        while changed:
            changed = False
            for k in range(end - 1, -1, -1):
                common = every
                for n in self._next[k]:
                    common &= through[n]
                now = common | 1 << k
                changed |= now != through[k]
                through[k] = now
        found = []
        for k in range(end):
            others = through[k] & ~(1 << k)
            # The nearest is the one that comes through all the others.
            candidates = (n for n in range(end + 1) if others >> n & 1)
            nearest = max(candidates, key=lambda n: through[n].bit_count(), default=end)
            found.append(nearest)
        return found

    def _region(self, following: Iterable[int], meets: int) -> set[int]:
        found: set[int] = set()
        waiting = list(following)
        while waiting:
            at = waiting.pop()
            if at in found or at in (meets, len(self.edges)):
                continue
            found.add(at)
            waiting += self._next[at]
        return found


__all__ = ["influence_of", "is_approximate", "operation", "ptx_name"]
