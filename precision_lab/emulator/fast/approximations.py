"""Approximate instructions: what a device may give for them is decided by the models in `nominal`.

The code calls a C function of the model, found in an array when it runs, with the source's bits and by how
much the chosen result is moved, from another array, by instruction: another choice needs no other code.
"""

from __future__ import annotations

from precision_lab.emulator import nominal
from precision_lab.emulator.fast.thread import WIDTHS, Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction

_TYPES = {
    "ex2": ("f32", "f16", "f16x2", "bf16", "bf16x2"), "tanh": ("f32", "f16", "f16x2", "bf16", "bf16x2"),
    "lg2": ("f32",), "rcp": ("f32", "f64"), "rsqrt": ("f32", "f64"), "sqrt": ("f32",),
    "sin": ("f32",), "cos": ("f32",), "div": ("f32",),
}  # fmt: skip


def approximate(t: Thread, i: Instruction) -> None:
    """ex2, lg2, rcp, rsqrt, sqrt, tanh, sin and cos .approx; div .approx and .full."""
    m = Modifiers(i)
    kind = m.last(_TYPES[i.opcode])
    how = m.one_of(("approx", "full") if i.opcode == "div" else ("approx",))
    ftz = m.flag("ftz")
    m.done()
    key = (f"{i.opcode}.{how}.{kind.removesuffix('x2')}", ftz)
    if not nominal.supports(*key):
        raise unsupported(i, f"{'with' if ftz else 'without'} .ftz of .{kind}")
    to, *sources = operands(i, 3 if i.opcode == "div" else 2)
    c, width = t.code, WIDTHS[kind]
    number = t.inputs.functions.setdefault(key, len(t.inputs.functions))
    place = c.value(f"getelementptr i32, ptr %choice, i64 {t.index}")
    moved = c.value(f"load i32, ptr {place}, !invariant.load !0")

    word = "i64" if width == 64 else "i32"

    def called(*bits: str) -> str:
        given = ", ".join([*(f"{word} {b}" for b in bits), f"i32 {moved}"])
        return c.value(f"call {word} %function{number}({given}) nounwind memory(none)")

    bits = [t.read(i, s, width) for s in sources]
    if kind in ("f32", "f64"):
        t.write(i, to, called(*bits), width)
    elif width == 16:
        t.write(i, to, c.resized(called(c.resized(bits[0], 16, 32)), 32, 16), 16)
    else:
        low, high = (c.resized(called(c.resized(b, 16, 32)), 32, 16) for b in t.halves(bits[0], 32))
        t.write(i, to, t.joined(low, high, 16), 32)
