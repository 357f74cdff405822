"""A cubin's sections, and what it says of a kernel beside its instructions.

A cubin is an ELF file. Attributes of a kernel (`.nv.info.NAME`) are records of a format, a number and a
value. What the numbers mean is in no document of NVIDIA's; it was read off what ptxas writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from precision_lab.emulator.ptx import Parameter
from precision_lab.exceptions import UsageError

# Formats of an attribute: without a value, with 16 bits, or with bytes behind it.
_SIZED = 4
_PARAMETER, _PARAMETER_BANK, _REQUIRED_THREADS, _MOST_THREADS = 0x17, 0x0A, 0x10, 0x05
_NO_BITS = 8


@dataclass(frozen=True)
class Section:
    """
    Attributes:
        size: in bytes, of memory; more than `data` where nothing is stored.
        link, info: what the kind of section makes of them.
    """

    name: str
    data: bytes
    size: int
    link: int
    info: int


@dataclass(frozen=True)
class Layout:
    """What a launch of a kernel must know.

    Attributes:
        parameters: with offsets from the first one.
        parameter_base: byte of constant bank 0 where the first one lies.
        constants: contents of each constant bank of the kernel's own but bank 0.
        shared_bytes: of shared memory whose size is known.
        symbol: the kernel's index in the table of symbols, by which nvdisasm chooses one.
        code: the instructions, 16 bytes each.
    """

    parameters: tuple[Parameter, ...]
    parameter_base: int
    constants: tuple[tuple[int, bytes], ...]
    shared_bytes: int
    symbol: int
    code: bytes
    block: tuple[int, int, int] | None
    most_threads: int


@lru_cache(maxsize=64)
def sections(cubin: bytes) -> tuple[Section, ...]:
    """
    Raises:
        ValueError: it is no ELF file of 64 bits.
    """
    if cubin[:5] != b"\x7fELF\x02":
        raise UsageError("this is no cubin: it does not begin as an ELF file of 64 bits does")
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    count, names = struct.unpack_from("<HH", cubin, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + 64 * k) for k in range(count)]
    text = headers[names][4]
    found = []
    for name, kind, _, _, at, size, link, info, *_ in headers:
        begin = text + name
        stored = b"" if kind == _NO_BITS else cubin[at : at + size]
        word = cubin[begin : cubin.index(b"\0", begin)].decode()
        found.append(Section(word, stored, size, link, info))
    return tuple(found)


def kernel_names(cubin: bytes) -> tuple[str, ...]:
    return tuple(s.name.removeprefix(".text.") for s in sections(cubin) if s.name.startswith(".text."))


@lru_cache(maxsize=256)
def layout(cubin: bytes, name: str) -> Layout:
    """
    Raises:
        ValueError: there is no such kernel.
    """
    by_name = {s.name: s for s in sections(cubin)}
    code = by_name.get(f".text.{name}")
    if code is None:
        raise UsageError(f"the machine code has no kernel {name!r}; it has {', '.join(kernel_names(cubin))}")
    parameters: dict[int, Parameter] = {}
    base, block, most = 0, None, 0
    for number, value in _attributes(by_name[f".nv.info.{name}"].data):
        if number == _PARAMETER:
            _, ordinal, offset, flags = struct.unpack("<IHHI", value)
            parameters[ordinal] = Parameter(f"{name}_param_{ordinal}", flags >> 18, offset)
        elif number == _PARAMETER_BANK:
            _, base, _ = struct.unpack("<IHH", value)
        elif number == _REQUIRED_THREADS:
            block = struct.unpack("<III", value[:12])
        elif number == _MOST_THREADS:
            x, y, z = struct.unpack("<III", value[:12])
            most = x * y * z
    constants = []
    for bank in range(1, 18):
        for each in (f".nv.constant{bank}.{name}", f".nv.constant{bank}"):
            if each in by_name:
                constants.append((bank, by_name[each].data))
                break
    shared = by_name.get(f".nv.shared.{name}")
    return Layout(
        tuple(parameters[k] for k in sorted(parameters)), base, tuple(constants),
        shared.size if shared else 0, _symbol(cubin, name), code.data, block, most,
    )  # fmt: skip


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        form, number, short = struct.unpack_from("<BBH", data, at)
        at += 4
        value = data[at : at + short] if form == _SIZED else short.to_bytes(2, "little")
        at += short if form == _SIZED else 0
        yield number, value


def _symbol(cubin: bytes, name: str) -> int:
    every = sections(cubin)
    table = next(s for s in every if s.name == ".symtab")
    words = every[table.link].data
    for index in range(len(table.data) // 24):
        (at,) = struct.unpack_from("<I", table.data, 24 * index)
        kind = table.data[24 * index + 4] & 15
        if kind == 2 and words[at : words.index(b"\0", at)].decode() == name:  # 2: a function
            return index
    raise UsageError(f"the machine code has no symbol {name!r}")
