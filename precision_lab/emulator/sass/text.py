"""The disassembler's text of a kernel → records.

One thing is taken from the code itself: constants, since the text of one may not say all its bits (NaN). What
the text does not say is when an instruction may begin; results do not depend on that.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.machine_code import program
from precision_lab.emulator.sass.code import EMPTY, Operand, SassInstruction, SassKernel
from precision_lab.emulator.sass.cubin import Layout, layout
from precision_lab.exceptions import UsageError

_SECTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^(\S+):\s*$")
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_REGISTER = re.compile(r"(UR|UP|R|P|SB|B)(\d+|Z|T)((?:\.\w+)*)")
_CONSTANT = re.compile(r"c\[0x([0-9a-f]+)\]\s*\[(?:(U?R\w+)(?:\+|(?=\])))?(-?0x[0-9a-f]+)?\]")
_FLOAT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|INF|QNAN|SNAN)")
_INTEGER = re.compile(r"-?0x[0-9a-f]+")
_PACKED = ("HFMA2", "HADD2", "HMUL2", "HSETP2", "HSET2", "HMNMX2")


@lru_cache(maxsize=128)
def kernel_of(cubin: bytes, name: str, target: str) -> SassKernel:
    """A kernel of machine code.

    Args:
        target: such as "sm_90", for which it is.

    Raises:
        ImportError: there is no disassembler.
        Unsupported: its text is not understood.
        ValueError: there is no such kernel.
    """
    found = layout(cubin, name)
    instructions = _parsed(_text(cubin, found.symbol), name, found)
    # From compute capability 9.0 on the first KiB of shared memory is the system's.
    base = 0x400 if int(re.sub(r"\D", "", target)) >= 90 else 0
    return SassKernel(
        name, found.parameters, (), {}, block=found.block, most_threads=found.most_threads, code=instructions,
        at={i.line: k for k, i in enumerate(instructions)}, parameter_base=found.parameter_base,
        constants=dict(found.constants), shared_bytes=found.shared_bytes, shared_base=base,
    )  # fmt: skip


def _text(cubin: bytes, symbol: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [str(program("nvdisasm")), "--print-code", "--cuda-function-index", str(symbol), str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise UsageError(f"nvdisasm does not read this machine code: {(ran.stderr or ran.stdout).strip()}")
    return ran.stdout


def _lines(text: str, name: str) -> Iterator[str]:
    inside = False
    for line in text.splitlines():
        begins = _SECTION.match(line)
        if begins or line.startswith("//----"):
            inside = begins is not None and begins.group(1) == name
        elif inside:
            yield line


def _parsed(text: str, name: str, found: Layout) -> tuple[SassInstruction, ...]:
    labels: dict[str, int] = {name: 0}
    rows: list[tuple[int, str, str, str]] = []
    waiting: list[str] = []
    for line in _lines(text, name):
        row = _LINE.match(line)
        if row is not None:
            address = int(row.group(1), 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
            if row.group(3) != "NOP":
                rows.append((address, row.group(2) or "", row.group(3), row.group(4).replace(".reuse", "")))
        elif label := _LABEL.match(line):
            waiting.append(label.group(1))
        elif line.strip().startswith("/*"):
            raise Unsupported(f"nvdisasm wrote {line.strip()!r}, which is not understood")
    return tuple(_instruction(row, labels, found.code) for row in rows)


def _instruction(row: tuple[int, str, str, str], labels: dict[str, int], code: bytes) -> SassInstruction:
    address, guard, name, rest = row
    opcode, *modifiers = name.split(".")
    (immediate,) = struct.unpack_from("<I", code, address + 4)
    words = re.split(r"\s*,\s*", rest) if rest else []
    # `RET R4 `(kernel)` and `CALL.ABS R2` have a space where others have a comma.
    words = [part for word in words for part in re.split(r"\s+(?=`\()", word)]
    operands: list[Operand] = []
    packed = opcode.startswith(_PACKED)
    skip = False
    for k, word in enumerate(words):
        if skip:
            skip = False
            continue
        if _FLOAT.fullmatch(word):
            # Of packed constants the text has two numbers, the upper one first.
            skip = packed and k + 1 < len(words) and _FLOAT.fullmatch(words[k + 1]) is not None
            operands.append(Operand("number", immediate, name="float"))
        else:
            operands.append(_operand(word, labels, name, address))
    predicate = _operand(guard, labels, name, address) if guard else None
    return SassInstruction(
        opcode, tuple(modifiers), (), None, address, None, f"{name} {rest}".strip(), tuple(operands),
        predicate, immediate,
    )  # fmt: skip


def _operand(word: str, labels: dict[str, int], name: str, address: int) -> Operand:
    bare = word
    inverted = bare[:1] in ("!", "~")
    bare = bare[1:] if inverted else bare
    negative = bare.startswith("-") and not _INTEGER.fullmatch(bare)
    bare = bare[1:] if negative else bare
    absolute = bare.startswith("|")
    parts: tuple[str, ...] = ()
    if absolute:
        inside, _, behind = bare[1:].partition("|")
        bare, parts = inside, tuple(behind.split(".")[1:])
    found = _unsigned(bare, parts, labels, (name, address))
    return replace(found, negative=negative, absolute=absolute, inverted=inverted)


def _unsigned(bare: str, parts: tuple[str, ...], labels: dict[str, int], where: tuple[str, int]) -> Operand:
    """An operand without what stands before it."""
    name, address = where
    if match := _REGISTER.fullmatch(bare):
        kind, number, more = match.groups()
        return Operand(
            kind, EMPTY if number in ("Z", "T") else int(number), parts=(*more.split(".")[1:], *parts)
        )
    if _INTEGER.fullmatch(bare) or bare == "0":
        return Operand("number", int(bare, 16))
    if match := _CONSTANT.match(bare):
        bank, register, offset = match.groups()
        base = _operand(register, labels, name, address) if register else None
        more = bare[match.end() :]
        return Operand(
            "c", int(offset or "0", 16), bank=int(bank, 16), base=base, parts=(*more.split(".")[1:], *parts)
        )
    if match := re.fullmatch(r"`\((\S+)\)", bare):
        if match.group(1) not in labels:
            raise Unsupported(
                f"{name} at 0x{address:04x}: the label {match.group(1)} is none of the kernel's"
            )
        return Operand("label", labels[match.group(1)])
    if match := re.fullmatch(r"(?:desc\[(UR\w+)\])?\[(.*)\]", bare):
        return _address(match.group(2), labels, name, address)
    if bare.startswith("SR"):
        return Operand("special", name=bare)
    if bare == "PR":
        return Operand("PR")
    raise Unsupported(f"{name} at 0x{address:04x}: the operand {bare!r} is not understood")


def _address(inside: str, labels: dict[str, int], name: str, address: int) -> Operand:
    base, uniform, offset = None, None, 0
    for word in inside.split("+") if inside else []:
        if _INTEGER.fullmatch(word):
            offset += int(word, 16)
            continue
        found = _operand(word, labels, name, address)
        if found.kind == "UR" and uniform is None:
            uniform = found
        elif found.kind == "R" and base is None:
            base = found
        else:
            raise Unsupported(f"{name} at 0x{address:04x}: the address [{inside}] is not understood")
    return Operand("address", offset, base=base, uniform=uniform)
