"""What a thread has: registers, operands read and written, and what an instruction's modifiers say."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from precision_lab.emulator.fast.code import FLOAT, Code
from precision_lab.emulator.fast.formats import NAN
from precision_lab.emulator.faults import Unsupported, unsupported
from precision_lab.emulator.operands import registers_of
from precision_lab.emulator.ptx import (
    Float,
    Instruction,
    Integer,
    Kernel,
    Not,
    Operand,
    Register,
    Sink,
    Special,
    Symbol,
)

WIDTHS = {
    "pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16, "b32": 32,
    "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32, "u16x2": 32, "s16x2": 32, "b64": 64,
    "u64": 64, "s64": 64, "f64": 64, "f32x2": 64, "b128": 128,
}  # fmt: skip
_AXES = "xyz"


class Modifiers:
    """An instruction's modifiers, taken one by one; what is not taken makes it unsupported."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self._left = list(instruction.modifiers)

    def flag(self, name: str) -> bool:
        if name in self._left:
            self._left.remove(name)
            return True
        return False

    def one_of(self, names: Iterable[str], default: str = "") -> str:
        """The one of these that is there."""
        found = [n for n in self._left if n in names]
        if len(found) > 1:
            raise unsupported(self.instruction, f"both .{found[0]} and .{found[1]}")
        if not found:
            return default
        self._left.remove(found[0])
        return found[0]

    def drop(self, names: Iterable[str]) -> None:
        """Takes all that are there; they say nothing about results."""
        self._left = [n for n in self._left if n not in names]

    def last(self, names: Iterable[str]) -> str:
        """The last modifier, a type, which must be one of these."""
        if not self._left or self._left[-1] not in names:
            raise unsupported(self.instruction, f"type .{self._left[-1] if self._left else '?'}")
        return self._left.pop()

    def done(self) -> None:
        if self._left:
            raise unsupported(self.instruction, f"modifier .{self._left[0]}")


@dataclass
class Inputs:
    """What a kernel's code finds in arrays when it runs: each a position, by what it stands for."""

    variables: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, bool], int] = field(default_factory=dict)


class Thread:
    """Code of one thread, as it is written, and the places of its registers.

    A register is a place that holds its bits. One that floating-point instructions use has a second place
    that holds the same as a float or double, whose NaN may be any: they treat all alike, so what makes a NaN
    canonical is only executed where the bits are looked at. LLVM removes the places, and what nobody reads.
    """

    def __init__(self, code: Code, kernel: Kernel, inputs: Inputs) -> None:
        self.code, self.kernel, self.inputs = code, kernel, inputs
        self.places: dict[Register, str] = {}
        self._floats: set[Register] = set()
        self.specials: dict[str, str] = {}
        self.variables: dict[str, Callable[[], str]] = {}
        self.index = 0
        for i in kernel.instructions:
            widths = [WIDTHS[kind] for kind in ("f32", "f64") if kind in i.modifiers]
            for register in registers_of(i):
                self.places.setdefault(register, f"%r{len(self.places)}")
                if register.bits in widths:
                    self._floats.add(register)

    def allocate(self) -> None:
        """Room for all registers."""
        for register, place in self.places.items():
            self.code.do(f"{place} = alloca i{register.bits}")
            if register in self._floats:
                self.code.do(f"{place}.f = alloca {FLOAT[register.bits]}")

    def clear(self) -> None:
        """All registers are 0."""
        for register in self.places:
            self.store(register, "0")

    def store(self, register: Register, bits: str) -> None:
        place = self.places[register]
        self.code.do(f"store i{register.bits} {bits}, ptr {place}")
        if register in self._floats:
            self.code.do(
                f"store {FLOAT[register.bits]} {self.code.to_float(bits, register.bits)}, ptr {place}.f"
            )

    # -- reading --------------------------------------------------------------------------------

    def read(self, i: Instruction, operand: Operand, width: int, *, wider: bool = False) -> str:
        """The bits of a source, of that width; a register may be `wider`, of which the low bits count."""
        if isinstance(operand, Register):
            value = self.code.value(f"load i{operand.bits}, ptr {self.places[operand]}")
            if operand.bits == width:
                return value
            if wider and operand.bits > width:
                return self.code.resized(value, operand.bits, width)
            raise unsupported(i, f"{operand.name} has {operand.bits} bits, not {width}")
        if isinstance(operand, Integer):
            return str(operand.value & ((1 << width) - 1))
        if isinstance(operand, Float):
            return str(_float_bits(i, operand, width))
        if isinstance(operand, Special) and width == 32:
            return self._special(i, operand.name)
        if isinstance(operand, Symbol) and width == 64 and operand.name in self.variables:
            return self.variables[operand.name]()
        raise unsupported(i, f"{operand} as a source")

    def read_float(self, i: Instruction, operand: Operand, width: int) -> str:
        """A source as a float or double; its NaN may be any."""
        if isinstance(operand, Register) and operand in self._floats and operand.bits == width:
            return self.code.value(f"load {FLOAT[width]}, ptr {self.places[operand]}.f")
        if not isinstance(operand, Register | Float):
            raise unsupported(i, f"{operand} as a floating-point number")
        return self.code.to_float(self.read(i, operand, width), width)

    def read_predicate(self, i: Instruction, operand: Operand) -> str:
        if isinstance(operand, Not):
            return self.code.value(f"xor i1 {self.read_predicate(i, operand.register)}, true")
        if isinstance(operand, Register) and operand.bits == 1:
            return self.code.value(f"load i1, ptr {self.places[operand]}")
        if isinstance(operand, Integer):
            return "true" if operand.value else "false"
        raise unsupported(i, f"{operand} as a predicate")

    def _special(self, i: Instruction, name: str) -> str:
        found = self.specials.get(name)
        if found is None:
            raise unsupported(i, f"the register {name}")
        return found

    # -- writing --------------------------------------------------------------------------------

    def write(
        self,
        i: Instruction,
        operand: Operand,
        bits: str,
        width: int,
        *,
        wider: bool = False,
        signed: bool = False,
    ) -> None:
        """The bits of a destination; a register may be `wider` and is then filled with zeros or the sign."""
        if isinstance(operand, Sink):
            return
        if not isinstance(operand, Register) or (
            operand.bits != width and not (wider and operand.bits > width)
        ):
            raise unsupported(i, f"{operand} as a destination of {width} bits")
        self.store(operand, self.code.resized(bits, width, operand.bits, signed=signed))

    def write_float(self, i: Instruction, operand: Operand, value: str, width: int, bits: str = "") -> None:
        """A result of arithmetic: a NaN is the canonical one, or as `bits` say."""
        if isinstance(operand, Sink):
            return
        if not isinstance(operand, Register) or operand.bits != width:
            raise unsupported(i, f"{operand} as a destination of {width} bits")
        place = self.places[operand]
        self.code.do(f"store i{width} {bits or self.canonical(value, width)}, ptr {place}")
        self.code.do(f"store {FLOAT[width]} {value}, ptr {place}.f")

    def canonical(self, value: str, width: int) -> str:
        """The bits of a number; of a NaN always the same."""
        is_nan = self.code.value(f"fcmp uno {FLOAT[width]} {value}, {value}")
        return self.code.select(is_nan, f"i{width}", str(NAN[width]), self.code.to_bits(value, width))

    def write_predicate(self, i: Instruction, operand: Operand, value: str) -> None:
        if isinstance(operand, Sink):
            return
        if not isinstance(operand, Register) or operand.bits != 1:
            raise unsupported(i, f"{operand} as a predicate")
        self.code.do(f"store i1 {value}, ptr {self.places[operand]}")

    # -- halves ---------------------------------------------------------------------------------

    def halves(self, bits: str, width: int) -> tuple[str, str]:
        """The lower and the upper half of an integer of that width."""
        upper = self.code.value(f"lshr i{width} {bits}, {width // 2}")
        return self.code.resized(bits, width, width // 2), self.code.resized(upper, width, width // 2)

    def joined(self, low: str, high: str, width: int) -> str:
        """The integer of these halves of that width."""
        low, high = (self.code.resized(h, width, 2 * width) for h in (low, high))
        high = self.code.value(f"shl i{2 * width} {high}, {width}")
        return self.code.value(f"or i{2 * width} {low}, {high}")


Handlers = Mapping[str, Callable[[Thread, Instruction], None]]


def operands(i: Instruction, *counts: int) -> tuple[Operand, ...]:
    """All operands, of which there must be as many as one of the counts says."""
    if len(i.operands) not in counts:
        raise unsupported(i, f"{len(i.operands)} operands")
    return i.operands


def _float_bits(i: Instruction, constant: Float, width: int) -> int:
    if constant.width == width:
        return constant.bits
    if constant.width == 0 and width == 64:
        return constant.bits
    if constant.width == 0 and width == 32:
        try:
            return int.from_bytes(struct.pack("<f", constant.value), "little")
        except OverflowError as error:
            raise Unsupported(f"{i.text}: {constant.value} is beyond the range of .f32") from error
    raise unsupported(i, f"a constant of {constant.width} bits for {width}")
