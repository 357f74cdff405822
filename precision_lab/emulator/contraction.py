"""A kernel as the assembler leaves it when it fuses products with the sums that use them.

Which products those may be is said in `products`; which they are in a given machine code is found by
`contraction_verdict`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from precision_lab.emulator.products import (
    SIGNS,
    Candidate,
    IndexPair,
    candidates,
    final_uses,
    uses_of,
)
from precision_lab.emulator.ptx import Float, Instruction, Integer, Kernel, Operand, Register
from precision_lab.exceptions import UsageError

_ONE, _QUARTER, _MILLIONS = (Float(bits, 32, value) for bits, value in (
    (0x3F800000, 1.0), (0x3E800000, 0.25), (0x4B800000, 2.0**24),
))  # fmt: skip
_SMALLEST_NORMAL, _LARGE = Float(0x00800000, 32, 2.0**-126), Float(0x7E800000, 32, 2.0**126)


def contractable(kernel: Kernel) -> tuple[IndexPair, ...]:
    """The (product, sum) pairs of instructions that may become one.

    Raises:
        Unsupported: a product or sum has a modifier that is not known.
    """
    return tuple(dict.fromkeys(c.indices for c in candidates(kernel)))


def usual(kernel: Kernel) -> tuple[IndexPair, ...]:
    """Those that an assembler contracts that may: every product all of whose uses are sums, one for a sum."""
    found = candidates(kernel)
    uses = uses_of(kernel)
    refused: set[int] = set()
    while True:
        chosen: dict[int, Candidate] = {}
        for c in found:
            if c.product not in refused:
                chosen.setdefault(c.sum, c)
        taken = {(c.product, c.sum, c.side) for c in chosen.values()}
        more = {
            c.product
            for c in chosen.values()
            if any((c.product, *use) not in taken for use in final_uses(kernel, uses, c.product))
        }
        if not more:
            return tuple(c.indices for c in chosen.values())
        refused |= more


def contracted(kernel: Kernel, pairs: Collection[IndexPair]) -> Kernel:
    """The kernel with these sums fused with their products, and everything else as it was.

    A sum becomes an fma of the product's factors; the product stays, for whatever else uses it. Where a sign
    must be turned or a quotient's denominator be scaled, instructions are put in front (see `origins`).

    Raises:
        ValueError: a pair is not contractable, two have one sum, or a quotient is used elsewhere, too.
    """
    return _rewritten(kernel, pairs)[0]


def origins(kernel: Kernel, pairs: Collection[IndexPair]) -> tuple[int, ...]:
    """Of each instruction of the contracted kernel, the index of the one that it comes from."""
    return _rewritten(kernel, pairs)[1]


def chosen_sums(kernel: Kernel, pairs: Collection[IndexPair]) -> dict[int, Candidate]:
    """The candidates that pairs of indices mean, by the index of the sum; errors as of `contracted`."""
    known: dict[IndexPair, Candidate] = {}
    for c in candidates(kernel):
        known.setdefault(c.indices, c)
    sums: dict[int, Candidate] = {}
    for pair in sorted(set(pairs)):
        if pair not in known:
            raise UsageError(f"{kernel.name}: the instructions {pair} are no product and sum to fuse")
        if pair[1] in sums:
            raise UsageError(f"{kernel.name}: the sum {pair[1]} cannot be fused with two products")
        sums[pair[1]] = known[pair]
    uses = uses_of(kernel)
    for c in sums.values():
        taken = {(d.sum, d.side) for d in sums.values() if d.product == c.product}
        if c.quotient and final_uses(kernel, uses, c.product) - taken:
            raise UsageError(
                f"{kernel.name}: the quotient {c.product} is used elsewhere, too; it is not fused"
            )
    return sums


def _rewritten(kernel: Kernel, pairs: Collection[IndexPair]) -> tuple[Kernel, tuple[int, ...]]:
    sums = chosen_sums(kernel, pairs)
    quotients = {c.product for c in sums.values() if c.quotient}
    written: list[Instruction] = []
    origin: list[int] = []
    starts: list[int] = []  # of what comes from each instruction
    numerators: dict[int, Operand] = {}
    for at, i in enumerate(kernel.instructions):
        starts.append(len(written))
        if at in quotients:
            new = list(_reciprocal(i, at, numerators))
        elif at in sums:
            new = list(_fused(kernel, sums[at], numerators))
        else:
            new = [i]
        written += new
        origin += [at] * len(new)
    starts.append(len(written))
    labels = {name: starts[at] for name, at in kernel.labels.items()}
    return replace(kernel, instructions=tuple(written), labels=labels), tuple(origin)


def _fused(kernel: Kernel, c: Candidate, numerators: Mapping[int, Operand]) -> Iterator[Instruction]:
    """The fma in place of a sum, behind what turns signs."""
    p, s = kernel.instructions[c.product], kernel.instructions[c.sum]
    # Of a quotient, the reciprocal stands where the quotient stood.
    factor, other = (numerators[c.product], p.operands[0]) if c.quotient else p.operands[1:3]
    addend = s.operands[2 - c.side]
    if c.negative:
        turning, factor = _turned(s, factor, f"~{c.sum}a")
        yield from turning
    if s.opcode == "sub" and c.side == 0:
        turning, addend = _turned(s, addend, f"~{c.sum}c")
        yield from turning
    modifiers = ("rn", *(m for m in s.modifiers if m in ("ftz", "sat")), s.type)
    yield _made(s, "fma", modifiers, s.operands[0], factor, other, addend, guard=True)


def _turned(s: Instruction, operand: Operand, mark: str) -> tuple[list[Instruction], Operand]:
    """−operand, exactly, and the instructions that make it: a flip of the sign bits, whatever it holds."""
    bits, signs = SIGNS[s.type]
    if isinstance(operand, Register):
        new = Register(operand.name + mark, operand.bits)
        return [_made(s, "xor", (f"b{bits}",), new, operand, Integer(signs))], new
    if isinstance(operand, Float):  # a decimal one is kept by its bits as a double
        signs = signs if operand.width else 1 << 63
        return [], Float(operand.bits ^ signs, operand.width, -operand.value)
    if isinstance(operand, Integer):
        return [], Integer((operand.value & ((1 << bits) - 1)) ^ signs)
    raise UsageError(f"the operand {operand} of {s.text!r} has no sign")


def _reciprocal(i: Instruction, at: int, numerators: dict[int, Operand]) -> Iterator[Instruction]:
    """1/(s·b) in place of a quotient a/b; the numerator becomes s·a.

    s is what the machine code of div.full and rcp has: 2⁻² where |b| > 2¹²⁶, so that the reciprocal is not
    subnormal, and 2²⁴ where b is; div.approx has the second alone, and nothing where subnormals are flushed.
    """
    a, b = (_ONE, i.operands[1]) if i.opcode == "rcp" else i.operands[1:3]
    ftz = ("ftz",) if "ftz" in i.modifiers else ()
    steps = []
    if "approx" not in i.modifiers or i.opcode == "rcp":
        steps.append(("gt", _LARGE, _QUARTER))
    if not ftz:
        steps.append(("lt", _SMALLEST_NORMAL, _MILLIONS))

    def fresh(what: str, bits: int = 32) -> Register:
        return Register(
            f"{i.operands[0].name if isinstance(i.operands[0], Register) else ''}~{at}{what}", bits
        )

    size = fresh("size")
    yield _made(i, "abs", (*ftz, "f32"), size, b)
    for comparison, limit, scale in steps:
        wants, larger_a, larger_b, new_a, new_b = (
            fresh(comparison + w, 1 if w == "p" else 32) for w in ("p", "ma", "mb", "a", "b")
        )
        yield _made(i, "setp", (comparison, *ftz, "f32"), wants, size, limit)
        yield _made(i, "mul", ("rn", *ftz, "f32"), larger_a, a, scale)
        yield _made(i, "mul", ("rn", *ftz, "f32"), larger_b, b, scale)
        yield _made(i, "selp", ("f32",), new_a, larger_a, a, wants)
        yield _made(i, "selp", ("f32",), new_b, larger_b, b, wants)
        a, b = new_a, new_b
    numerators[at] = a
    yield _made(i, "rcp", ("approx", "ftz", "f32"), i.operands[0], b, guard=True)


def _made(
    of: Instruction, opcode: str, modifiers: tuple[str, ...], *operands: Operand, guard: bool = False
) -> Instruction:
    """An instruction of the lab's own in place of a part of another."""
    text = f"{of.text}, contracted"
    return replace(
        of,
        opcode=opcode,
        modifiers=modifiers,
        operands=operands,
        guard=of.guard if guard else None,
        text=text,
    )
