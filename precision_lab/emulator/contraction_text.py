"""PTX as text in which chosen products and sums may not be contracted, or are written as fma."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from precision_lab.emulator.products import SIGNS, Candidate, is_open
from precision_lab.emulator.ptx import Float, Integer, Kernel, Operand, Register
from precision_lab.exceptions import UsageError

_SUM_OR_PRODUCT = re.compile(rf"(?<![\w.%$])(?:add|sub|mul)(?:\.[a-z]+)*\.(?:{'|'.join(SIGNS)})(?!\w)")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instruction stands in the text: its guard's begin, its name's begin and end, its semicolon."""

    begin: int
    name: int
    name_end: int
    end: int


def places_of(text: str, kernel: Kernel) -> dict[int, Place]:
    """Of each open product and sum of a kernel, where it stands."""
    bare = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    by_line: dict[int, list[re.Match[str]]] = {}
    line, at = 1, 0
    for match in _SUM_OR_PRODUCT.finditer(bare):
        line += bare.count("\n", at, match.start())
        at = match.start()
        by_line.setdefault(line, []).append(match)
    places = {}
    for index, i in enumerate(kernel.instructions):
        if i.opcode not in ("add", "sub", "mul") or i.type not in SIGNS:
            continue
        match = by_line[i.line].pop(0)
        assert match.group() == i.name, (match.group(), i.text)
        if not is_open(i):
            continue
        guard = re.search(r"@\s*!?\s*[%\w$]+\s*\Z", bare[: match.start()])
        begin = guard.start() if guard else match.start()
        places[index] = Place(begin, match.start(), match.end(), bare.index(";", match.end()))
    return places


def edited(
    text: str, kernel: Kernel, places: Mapping[int, Place], open_: Collection[int],
    fused: Mapping[int, Candidate],
) -> str:  # fmt: skip
    """The text with `.rn` in what is not open, and the sums that are fused as fma."""
    parts, at = [], 0
    for index, place in sorted(places.items(), key=lambda item: item[1].begin):
        if index in open_ or (index in fused and fused[index].quotient):
            continue
        if index in fused:
            parts += [text[at : place.begin], _as_fma(kernel, fused[index])]
            at = place.end
        else:
            i = kernel.instructions[index]
            if "rn" in i.modifiers:
                continue
            end = place.name + len(i.opcode)
            parts += [text[at:end], ".rn"]
            at = end
    return "".join([*parts, text[at:]])


def _as_fma(kernel: Kernel, c: Candidate) -> str:
    """The sum as text: an fma, behind what turns signs."""
    p, s = kernel.instructions[c.product], kernel.instructions[c.sum]
    result, factor, other, addend = s.operands[0], *p.operands[1:3], s.operands[2 - c.side]
    lines = []
    words = [_word(o, s.type) for o in (result, factor, other, addend)]
    turned = [1] * c.negative + [3] * (s.opcode == "sub" and c.side == 0)
    for k in turned:
        new = f"%lab_{c.sum}_{k}"
        # `neg` of f32x2 does not exist; the sign bits are turned one by one.
        width = {"f32": "f32", "f64": "f64", "f32x2": "b64"}.get(s.type, "b32" if "x2" in s.type else "b16")
        lines.append(f".reg .{width} {new};")
        if s.type == "f32x2":
            lines.append(f"xor.b64 {new}, {words[k]}, 0x8000000080000000;")
        else:
            lines.append(f"neg.{s.type} {new}, {words[k]};")
        words[k] = new
    guard = ""
    if s.guard is not None:
        guard = f"@{s.guard.name} " if isinstance(s.guard, Register) else f"@!{s.guard.register.name} "
    kept = "".join(f".{m}" for m in s.modifiers if m in ("ftz", "sat"))
    # The semicolon of the sum follows.
    return " ".join([*lines, f"{guard}fma.rn{kept}.{s.type} {', '.join(words)}"])


def _word(operand: Operand, kind: str) -> str:
    """An operand as PTX writes it; a register of an inner scope by its name there."""
    if isinstance(operand, Register):
        return operand.name.partition("@")[0]
    if isinstance(operand, Integer):
        return str(operand.value)
    if isinstance(operand, Float):
        digits = f"0f{operand.bits:08X}" if operand.width == 32 else f"0d{operand.bits:016X}"
        return digits if operand.width or kind == "f64" else repr(operand.value)
    raise UsageError(f"{operand} is no operand of an fma")
