"""A choice among the results that a device may return reaches the instruction that it is of."""

from __future__ import annotations

import numpy as np
from one_instruction import ENGINES, kernel, run

from precision_lab.emulator import nominal
from precision_lab.emulator.launch import Choice

LINES = "ex2.approx.f32 %r, %a; rcp.approx.f32 %s, %a;"


def test_both_engines_take_the_choice_of_each_instruction() -> None:
    x = np.linspace(0.25, 4.0, 256, dtype=np.float32).view(np.uint32)
    instructions = kernel(LINES, (32,), ("b32", "b32")).instructions
    first, second = (
        next(k for k, i in enumerate(instructions) if i.opcode == opcode) for opcode in ("ex2", "rcp")
    )
    for a, b in ((0, 0), (2, 0), (0, -1), (-1, 1)):
        moved = {k: by for k, by in ((first, a), (second, b)) if by}
        expected = [
            nominal.evaluate(op, False, by, x) for op, by in (("ex2.approx.f32", a), ("rcp.approx.f32", b))
        ]
        for engine in ENGINES:
            found = run(engine, LINES, [x], "b32", "b32", choice=Choice(moved))
            assert all((f == e).all() for f, e in zip(found, expected, strict=True)), (engine.name, a, b)
    assert (
        nominal.evaluate("ex2.approx.f32", False, 2, x) != nominal.evaluate("ex2.approx.f32", False, 0, x)
    ).any()
