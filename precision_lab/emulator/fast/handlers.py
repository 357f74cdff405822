"""Which function writes the code of an instruction: by its opcode, and by its type where there are two."""

from __future__ import annotations

from collections.abc import Callable

from precision_lab.emulator.fast import (
    accesses,
    approximations,
    bits,
    comparisons,
    conversions,
    floats,
    integers,
    signs,
)
from precision_lab.emulator.fast.thread import Handlers, Thread
from precision_lab.emulator.ptx import Instruction

Handler = Callable[[Thread, Instruction], None]


def _by_type(on_floats: Handler, on_integers: Handler) -> Handler:
    def handler(t: Thread, i: Instruction) -> None:
        (on_floats if i.type in floats.FLOATS else on_integers)(t, i)

    return handler


def _rounded_or_approximate(t: Thread, i: Instruction) -> None:
    if i.opcode == "div" and i.type in integers.INTEGERS:
        integers.div(t, i)
    elif "approx" in i.modifiers or "full" in i.modifiers:
        approximations.approximate(t, i)
    else:
        floats.arithmetic(t, i)


HANDLERS: Handlers = {
    "add": _by_type(floats.arithmetic, integers.add), "sub": _by_type(floats.arithmetic, integers.add),
    "mul": _by_type(floats.arithmetic, integers.mul), "mad": _by_type(floats.arithmetic, integers.mad),
    "fma": floats.arithmetic, "sad": integers.sad, "rem": integers.div,
    "neg": _by_type(signs.sign, integers.neg), "abs": _by_type(signs.sign, integers.absolute),
    "min": _by_type(signs.extreme, integers.extreme), "max": _by_type(signs.extreme, integers.extreme),
    "copysign": signs.copysign,
    **dict.fromkeys(("ex2", "lg2", "rsqrt", "tanh", "sin", "cos"), approximations.approximate),
    **dict.fromkeys(("rcp", "sqrt", "div"), _rounded_or_approximate),
    **bits.HANDLERS, **comparisons.HANDLERS, **conversions.HANDLERS, **accesses.HANDLERS,
}  # fmt: skip
