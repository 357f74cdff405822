"""Approximate instructions: what a conforming device may return, by the models of `nominal`."""

from __future__ import annotations

from functools import partial

import numpy as np

from precision_lab.emulator import nominal
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import Tabulated
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.step import Step

_TYPES = {"f32": 32, "f16": 16, "bf16": 16, "f16x2": 32, "bf16x2": 32, "f64": 64}


def approximate(i: Instruction, index: int) -> Step:
    """ex2, lg2, rcp, rsqrt, sqrt, tanh, sin, cos with .approx; div with .approx or .full.

    Args:
        index: of the instruction, by which a launch chooses its result.
    """
    modifiers = Modifiers(i)
    kind = modifiers.type(*_TYPES)
    how, ftz = modifiers.one_of("approx", "full"), modifiers.flag("ftz")
    modifiers.end()
    if not how or (how == "full") > (i.opcode == "div"):
        raise unsupported(i)
    scalar, bits = kind.removesuffix("x2"), _TYPES[kind]
    op = f"{i.opcode}.{how}.{scalar}"
    if not nominal.supports(op, ftz):
        raise unsupported(i, f"{'with' if ftz else 'without'} .ftz")

    def step(lanes: Lanes, live: Mask) -> None:
        choice = lanes.launch.choice
        table = choice.tables.get((op, ftz))
        if table is None:
            evaluate = partial(nominal.evaluate, op, ftz, choice.of(index))
        else:
            evaluate = partial(_looked_up, table, live)
        given = [lanes.spread(lanes.read(i, o, bits)) for o in i.operands[1:]]
        if kind.endswith("x2"):
            low, high = (evaluate((given[0] >> np.uint32(s)).astype(np.uint16)) for s in (0, 16))
            found = low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))
        else:
            found = evaluate(*(np.ascontiguousarray(g) for g in given))
        lanes.write(i, i.operands[0], found.astype(UNSIGNED[bits]), live)

    return step


def _looked_up(table: Tabulated, live: Mask, bits: Array) -> Array:
    """What a table says of the live lanes' operands; of others it may have nothing."""
    if live is None:
        return table.evaluate(bits)
    found = np.zeros_like(bits)
    found[live] = table.evaluate(bits[live])
    return found
