"""How wide the registers of an instruction must be: a program in which they are not is none.

Source: PTX ISA, "Operands" and "Instruction Operands: Type Conversion": only loads, stores and conversions
take registers wider than the type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Not, Operand, Pair, Register, Vector
from precision_lab.emulator.reference.step import bits_of

# Of each operand: "w" as wide as the type, "d" twice that, "f" as the type before the last one, "3" 32 bits,
# "1" a predicate, "." anything.
_SHAPES: Mapping[str, str] = {
    **dict.fromkeys(("neg", "abs", "not", "cnot", "brev", "sqrt", "rcp", "rsqrt", "ex2", "lg2"), "ww"),
    **dict.fromkeys(("tanh", "sin", "cos"), "ww"),
    **dict.fromkeys(("add", "sub", "mul", "div", "rem", "and", "or", "xor", "copysign"), "www"),
    **dict.fromkeys(("mad", "fma", "sad", "min", "max"), "wwww"),
    **dict.fromkeys(("popc", "clz", "bfind"), "3w"),
    "shl": "ww3", "shr": "ww3", "bfe": "ww33", "bfi": "www33", "lop3": "wwww3", "shf": "3333", "prmt": "3333",
    "selp": "www1", "slct": "www3", "setp": "1ww1", "set": "fww1", "testp": "1w", "shfl": "p3333",
    "vote": ".13", "activemask": "3", "elect": "p3", "redux": "333",
}  # fmt: skip


def check(i: Instruction) -> None:
    """
    Raises:
        Unsupported: a register is not as wide as the instruction takes it.
    """
    if i.opcode in ("ld", "ldu", "st", "cvt"):
        _at_least(i)
        return
    if i.opcode == "mov":
        for operand in i.operands:
            each = operand.items if isinstance(operand, Vector) else (operand,)
            # The parser makes a register of 8 bits one of 16.
            _require(i, each, max(_width(i.type) // len(each), 16) if i.type != "pred" else 1)
        return
    for operand, letter in zip(i.operands, _shape(i), strict=False):
        if letter == "p":  # a register, and a predicate perhaps
            first, second = (operand.first, operand.second) if isinstance(operand, Pair) else (operand, None)
            _require(i, (first,), 32)
            _require(i, (second,) if second is not None else (), 1)
        elif letter != ".":
            both = (operand.first, operand.second) if isinstance(operand, Pair) else (operand,)
            _require(i, both, _letter(i, letter))


def _shape(i: Instruction) -> str:
    shape = _SHAPES.get(i.opcode, "")
    if i.opcode in ("mul", "mad") and "wide" in i.modifiers:
        return "dwwd"
    if i.opcode in ("add", "sub", "fma") and i.type in ("f16", "bf16") and "f32" in i.modifiers:
        return "3ww3" if i.opcode == "fma" else "3w3"
    return shape


def _letter(i: Instruction, letter: str) -> int:
    if letter in "13":
        return {"1": 1, "3": 32}[letter]
    if letter == "f":
        return _width(i.modifiers[-2])
    return _width(i.type) * (2 if letter == "d" else 1)


def _width(kind: str) -> int:
    """Of a type, of which the instruction's own family knows whether it has it."""
    if kind == "pred":
        return 1
    if kind in ("e4m3x2", "e5m2x2", "e2m3x2", "e3m2x2", "ue8m0x2"):
        return 16
    if kind == "e2m1x2":
        return 8
    if kind == "tf32":
        return 32
    scalar = kind.removesuffix("x2")
    known = scalar.lstrip("bfsu")
    return bits_of(scalar) * (2 if kind.endswith("x2") else 1) if known.isdigit() else 0


def _require(i: Instruction, operands: Iterable[Operand], bits: int) -> None:
    for operand in operands:
        register = operand.register if isinstance(operand, Not) else operand
        if isinstance(register, Register) and bits and register.bits != bits:
            raise unsupported(i, f"{register.name} has {register.bits} bits, not {bits}")


def _at_least(i: Instruction) -> None:
    """Of what is loaded, stored or converted; registers may be wider."""
    if i.opcode == "cvt":
        to = _width(i.modifiers[-2]) if len(i.modifiers) > 1 else 0
        groups = [(i.operands[:1], to), (i.operands[1:3], _width(i.type))]
    else:
        groups = [(i.operands[1:] if i.opcode == "st" else i.operands[:1], _width(i.type))]
    for operands, bits in groups:
        for operand in operands:
            for item in operand.items if isinstance(operand, Vector) else (operand,):
                if isinstance(item, Register) and item.bits < bits:
                    raise unsupported(i, f"{item.name} has {item.bits} bits, fewer than {bits}")
