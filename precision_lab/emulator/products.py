"""Products that NVIDIA's assembler may put into the addition that follows, found in a kernel.

The PTX manual (instructions `add`, `sub`, `mul`) lets `mul` followed by `add` or `sub` be "optimized to use
fused-multiply-add" where neither has a rounding modifier; one with `.rn` is left alone. What the assembler
makes of that was read from the machine code of ptxas 12.9, 13.0, 13.4 and 13.5 for sm_80, sm_90 and sm_100
(the tests do it again): both must be without modifier, of one type and flush alike; the product must not
saturate, the sum may; a product is fused only if every use of it is such a sum; of two products that are
added, the first is fused.

Quotients are products there: `div.approx.f32`, `div.full.f32` and `rcp.approx.f32` multiply by the
reciprocal of the (scaled) denominator, and that product is fused as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import (
    Instruction,
    Kernel,
    Not,
    Operand,
    Pair,
    Register,
    Vector,
)

# Of each type, its width and the signs of the numbers in it.
SIGNS = {
    "f16": (16, 0x8000), "bf16": (16, 0x8000), "f16x2": (32, 0x80008000), "bf16x2": (32, 0x80008000),
    "f32": (32, 0x80000000), "f64": (64, 1 << 63), "f32x2": (64, 0x8000000080000000),
}  # fmt: skip
_ROUNDINGS = ("rn", "rz", "rm", "rp")
_ENDS_BLOCK = ("bra", "brx", "ret", "exit", "call", "trap")

IndexPair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product and a sum that uses it.

    Attributes:
        product, sum: indices of their instructions.
        side: which of the sum's two operands the product is.
        negative: whether the sum uses −product.
        quotient: the product is a numerator with the reciprocal of a denominator.
    """

    product: int
    sum: int
    side: int
    negative: bool
    quotient: bool

    @property
    def indices(self) -> IndexPair:
        return self.product, self.sum


def is_open(i: Instruction) -> bool:
    """Whether it is a sum or product of floating-point numbers that an assembler may fuse."""
    if i.opcode not in ("add", "sub", "mul") or i.type not in SIGNS:
        return False
    stated = set(i.modifiers) & set(_ROUNDINGS)
    if "f32" in i.modifiers[:-1] and stated:  # of FP32 and a narrower number, rounded by itself
        return False
    if unknown := set(i.modifiers[:-1]) - {*_ROUNDINGS, "ftz", "sat"}:
        raise unsupported(i, f".{min(unknown)} is not known")
    # ptxas 12.9 fuses pairs of numbers for sm_100 even where `.rn` forbids it; 13.4 does not.
    return not stated or (stated == {"rn"} and i.type == "f32x2")


def is_product(i: Instruction) -> bool:
    """Whether it is a product that may be fused, or a quotient that is made as one."""
    return (i.opcode == "mul" and is_open(i) and "sat" not in i.modifiers) or is_quotient(i)


def is_quotient(i: Instruction) -> bool:
    """Whether its last step is a product: a reciprocal that flushes subnormals has nothing to scale back."""
    if i.opcode == "rcp":
        return i.modifiers == ("approx", "f32")
    return i.opcode == "div" and i.type == "f32" and bool({"approx", "full"} & set(i.modifiers))


def candidates(kernel: Kernel) -> tuple[Candidate, ...]:
    """All pairs, in the order of the sums; of a sum, its first operand first.

    Raises:
        Unsupported: a product or sum has a modifier that is not known.
    """
    return tuple(_candidates(kernel))


def _candidates(kernel: Kernel) -> Iterator[Candidate]:
    flow = _Flow(kernel)
    for at, i in enumerate(kernel.instructions):
        if i.opcode not in ("add", "sub") or not is_open(i):
            continue
        for side in (0, 1):
            found = flow.source(at, i.operands[1 + side])
            if found is None:
                continue
            product, negative = found
            p = kernel.instructions[product]
            if not is_product(p) or p.type != i.type or ("ftz" in p.modifiers) != ("ftz" in i.modifiers):
                continue
            if p.guard is not None and p.guard != i.guard:
                continue
            guards = [p.guard] if isinstance(p.guard, Register) else [p.guard.register] if p.guard else []
            if not all(flow.is_unchanged(o, product, at) for o in (*p.operands[1:], *guards)):
                continue
            yield Candidate(product, at, side, negative ^ (i.opcode == "sub" and side == 1), is_quotient(p))


class _Flow:
    """Where registers get their values."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._written: dict[str, list[int]] = {}
        block, self._block = 0, []
        starts = set(kernel.labels.values())
        for at, i in enumerate(kernel.instructions):
            block += at in starts
            self._block.append(block)
            block += i.opcode in _ENDS_BLOCK
            for register in _destinations(i):
                self._written.setdefault(register.name, []).append(at)

    def source(self, at: int, operand: Operand) -> tuple[int, bool] | None:
        """The instruction that makes what an operand holds at `at`, behind copies and sign changes."""
        negative, here = False, at
        while isinstance(operand, Register):
            made = self._maker(here, operand)
            if made is None:
                return None
            i = self._kernel.instructions[made]
            copies = i.opcode == "mov" and len(i.operands) == 2 and isinstance(i.operands[1], Register)
            turns = i.opcode == "neg" and i.type in SIGNS and "ftz" not in i.modifiers
            if not (copies or turns) or i.guard is not None:
                return made, negative
            # What it was copied from must be the same when the copy is used.
            if not self.is_unchanged(i.operands[1], made, at):
                return None
            negative ^= turns
            operand, here = i.operands[1], made
        return None

    def is_unchanged(self, operand: Operand, first: int, last: int) -> bool:
        """Whether an operand that `first` reads has the same value at `last`, which `first` reaches.

        A register that is written once is: its only definition comes before `first` on every way (a program
        that reads what nobody has written aside), and a way from `first` to `last` through it once more could
        leave `first` out, though `last` reads what `first` makes. Others must stay inside one block.
        """
        if not isinstance(operand, Register):
            return True
        written = self._written.get(operand.name, [])
        if len(written) <= 1:
            return True
        return self._block[first] == self._block[last] and not any(first <= w < last for w in written)

    def _maker(self, at: int, register: Register) -> int | None:
        """The one instruction whose result a register holds at `at`; None where it may be one of several."""
        written = self._written.get(register.name, [])
        before = [w for w in written if w < at and self._block[w] == self._block[at]]
        if len(written) == 1 or before:
            made = written[0] if len(written) == 1 else before[-1]
            guard = self._kernel.instructions[made].guard
            # Under a guard it keeps what it had, unless that is nothing.
            return made if guard is None or len(written) == 1 else None
        return None


def _registers(operand: Operand) -> Iterator[Register]:
    if isinstance(operand, Register):
        yield operand
    elif isinstance(operand, Not):
        yield operand.register
    elif isinstance(operand, Vector):
        for item in operand.items:
            yield from _registers(item)
    elif isinstance(operand, Pair):
        yield from _registers(operand.first)
        yield from _registers(operand.second)


def _destinations(i: Instruction) -> Iterator[Register]:
    """What its first operand names; of an instruction without result that is an address, label or number."""
    if i.operands and i.opcode not in ("st", "red"):
        yield from _registers(i.operands[0])


def uses_of(kernel: Kernel) -> dict[str, list[IndexPair]]:
    """Of each register, where it is read: instruction and position among the sources, −1 for elsewhere."""
    found: dict[str, list[IndexPair]] = {}
    for at, i in enumerate(kernel.instructions):
        first = 0 if i.opcode in ("st", "red") else 1
        for position, operand in enumerate(i.operands[first:]):
            for register in _registers(operand):
                found.setdefault(register.name, []).append((at, position))
        base = getattr(i.operands[0], "base", None) if i.operands else None
        if isinstance(base, Register):
            found.setdefault(base.name, []).append((at, -1))
    return found


def final_uses(kernel: Kernel, uses: Mapping[str, Sequence[IndexPair]], product: int) -> set[IndexPair]:
    """Where a product is read, also behind copies and sign changes."""
    final: set[IndexPair] = set()
    waiting, seen = [product], {product}
    while waiting:
        for register in _destinations(kernel.instructions[waiting.pop()]):
            for at, position in uses.get(register.name, []):
                i = kernel.instructions[at]
                if i.opcode in ("mov", "neg") and len(i.operands) == 2:
                    if at not in seen:
                        seen.add(at)
                        waiting.append(at)
                else:
                    final.add((at, position))
    return final
