"""PTX text → words, and constants of it → numbers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.ptx import Float, Integer

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\f\v]+|//[^\n]*|/\*.*?\*/)
  | (?P<newline>\n)
  | (?P<string>"[^"\n]*")
  | (?P<number>0[fF][0-9a-fA-F]{8}(?!\w)|0[dD][0-9a-fA-F]{16}(?!\w)|0[xX][0-9a-fA-F]+U?|0[bB][01]+U?
      |\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+U?)
  | (?P<word>\.[A-Za-z_]\w*(?:::\w+)*|[%$A-Za-z_][\w$]*(?:(?:\.|::)[\w$]+)*)
  | (?P<mark>[{}()\[\];:,@!|+\-=<>*&~])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    line: int


def tokens(text: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unsupported(f"PTX line {line}: {text[at : at + 20]!r} is not understood")
        kind, found = match.lastgroup, match.group()
        if kind not in ("space", "newline"):
            assert kind is not None
            yield Token(kind, found, line)
        line += found.count("\n")
        at = match.end()


def number(text: str) -> Integer | Float:
    if text[:2] in ("0f", "0F"):
        bits = int(text[2:], 16)
        return Float(bits, 32, struct.unpack("<f", struct.pack("<I", bits))[0])
    if text[:2] in ("0d", "0D"):
        bits = int(text[2:], 16)
        return Float(bits, 64, struct.unpack("<d", struct.pack("<Q", bits))[0])
    if "." in text or (("e" in text or "E" in text) and text[:2] not in ("0x", "0X")):
        return Float(struct.unpack("<Q", struct.pack("<d", float(text)))[0], 0, float(text))
    text = text.rstrip("U")
    return Integer(int(text, 8) if len(text) > 1 and text.isdigit() and text[0] == "0" else int(text, 0))


def negative(token: Token) -> Integer | Float:
    value = number(token.text)
    if isinstance(value, Integer):
        return Integer(-value.value)
    if value.width:
        raise Unsupported(f"PTX line {token.line}: the negative of {token.text} is not emulated")
    return Float(value.bits ^ (1 << 63), 0, -value.value)


def written(words: list[str]) -> str:
    """Words as a person writes an instruction."""
    text = " ".join(words)
    return re.sub(
        r"@ ?(!? ?)", lambda m: "@" + m.group(1).strip(), re.sub(r" ([,\]}|])", r"\1", text)
    ).replace("[ ", "[")
