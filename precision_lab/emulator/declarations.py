"""Reads words one by one, and what of PTX declares something: parameters and variables."""

from __future__ import annotations

from collections.abc import Iterator

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.ptx import Integer, Parameter, Variable
from precision_lab.emulator.tokens import Token, number, tokens

BITS = {
    "pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16, "b32": 32,
    "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32, "b64": 64, "u64": 64, "s64": 64, "f64": 64,
    "f32x2": 64, "b128": 128,
}  # fmt: skip
SPACES = ("shared", "global", "const", "local")


class Reader:
    """The words of a program, and where reading has come to."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text.rstrip("\0")))  # NVRTC ends it as C ends a string
        self._at = 0

    # -- tokens ---------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _next(self) -> Token:
        if self._at >= len(self._tokens):
            raise Unsupported("the PTX ends in the middle of a statement")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, text: str) -> Token:
        token = self._next()
        if token.text != text:
            raise Unsupported(f"PTX line {token.line}: expected {text!r}, found {token.text!r}")
        return token

    def _accept(self, text: str) -> bool:
        if self._peek() == text:
            self._at += 1
            return True
        return False

    def _integer(self) -> int:
        token = self._next()
        if token.kind != "number":
            raise Unsupported(f"PTX line {token.line}: expected a number, found {token.text!r}")
        return int(token.text.rstrip("U"), 0)

    def _skip_line(self, line: int) -> None:
        while self._at < len(self._tokens) and self._tokens[self._at].line == line:
            self._at += 1

    def _parameter(self, before: list[Parameter]) -> Parameter:
        self._expect(".param")
        align, size, name = 0, 0, ""
        while self._peek() not in (",", ")"):
            token = self._next()
            if token.text == ".align":
                align = self._integer()  # of what a pointer points to, where .ptr came before
            elif token.text[0] == "." and token.text[1:] in BITS:
                size = BITS[token.text[1:]] // 8
            elif token.text in (".ptr", ".global", ".const", ".shared", ".local"):
                continue
            elif token.text == "[":
                size *= self._integer()
                self._expect("]")
            elif token.kind == "word" and token.text[0] != ".":
                name = token.text
            else:
                raise Unsupported(f"PTX line {token.line}: {token.text!r} in a parameter is not understood")
        # A scalar is aligned to its size; only an array of bytes says its alignment.
        step = size if size in (1, 2, 4, 8) else max(align, 1)
        end = before[-1].offset + before[-1].size if before else 0
        return Parameter(name, size, -(-end // step) * step)

    def _variables(self, space: str) -> Iterator[Variable]:
        """One declaration, which may name several."""
        align, size = 0, 0
        while True:
            token = self._next()
            if token.text == ".align":
                align = self._integer()
            elif token.text in (".v2", ".v4"):
                size *= int(token.text[2])
            elif token.text[0] == "." and token.text[1:] in BITS:
                size = max(size, 1) * BITS[token.text[1:]] // 8
            elif token.kind == "word" and token.text[0] != ".":
                break
            else:
                raise Unsupported(f"PTX line {token.line}: {token.text!r} in a variable is not understood")
        while True:
            count = 1
            while self._accept("["):
                count *= 0 if self._peek() == "]" else self._integer()
                self._expect("]")
            initial = b""
            if self._accept("="):
                initial = self._initial(size, token)
            yield Variable(token.text, space, max(align, size), size * count, initial)
            if not self._accept(","):
                break
            token = self._next()
        self._expect(";")

    def _initial(self, size: int, name: Token) -> bytes:
        values: list[int] = []
        many = self._accept("{")
        while True:
            negative = self._accept("-")
            token = self._next()
            if token.kind != "number":
                raise Unsupported(
                    f"PTX line {token.line}: {name.text} begins as {token.text!r}: not emulated"
                )
            value = number(token.text)
            bits = value.value if isinstance(value, Integer) else value.bits
            values.append(-bits if negative else bits)
            if not (many and self._accept(",")):
                break
        if many:
            self._expect("}")
        return b"".join((v & ((1 << 8 * size) - 1)).to_bytes(size, "little") for v in values)
