"""PTX text → `ptx.Module`. Whatever is not understood is refused by name and line, never skipped."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from precision_lab.emulator.declarations import BITS, SPACES, Reader
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.ptx import (
    Address,
    Instruction,
    Integer,
    Kernel,
    Module,
    Not,
    Operand,
    Pair,
    Parameter,
    Place,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
    Vector,
)
from precision_lab.emulator.tokens import Token, negative, number, written

SPECIALS = frozenset({
    *(f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
    *(f"%lanemask_{which}" for which in ("eq", "le", "lt", "ge", "gt")), "%laneid", "%warpid", "%nwarpid",
})  # fmt: skip
# Directives that say something about code generation or debugging, and nothing about what is computed.
_SILENT = ("pragma", "noreturn", "weak", "visible", "extern", "minnctapersm", "maxnreg", "common")


@dataclass
class _Body:
    """What is gathered of one kernel."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    scopes: list[dict[str, Register]] = field(default_factory=list)
    opened: int = 0
    place: Place | None = None


@lru_cache(maxsize=256)
def parse(text: str) -> Module:
    """The kernels of a PTX program.

    Raises:
        Unsupported: the text has something that is not emulated, or is no PTX.
    """
    return _Parser(text).module()


# LLVM counts the source's line up for every line of an assembler block that Triton has put in.
_ASSEMBLER = re.compile(r"// begin inline asm\n.*?// end inline asm", re.DOTALL)
_LOCATION = re.compile(r"^\s*\.loc[^\n]*$", re.MULTILINE)


class _Parser(Reader):
    def __init__(self, text: str) -> None:
        super().__init__(_ASSEMBLER.sub(lambda block: _LOCATION.sub("", block.group()), text))
        self._files: dict[str, str] = self._file_names()
        self._globals: dict[str, Variable] = {}

    def _file_names(self) -> dict[str, str]:
        """By number; they stand at the end of what Triton emits."""
        found = {}
        for first, count, name in zip(self._tokens, self._tokens[1:], self._tokens[2:], strict=False):
            if first.text == ".file" and name.kind == "string":
                found[count.text] = name.text.strip('"').rsplit("/", 1)[-1]
        return found

    # -- the module -----------------------------------------------------------------------------

    def module(self) -> Module:
        version, target = (0, 0), ""
        kernels: dict[str, Kernel] = {}
        while self._at < len(self._tokens):
            token = self._next()
            word = token.text
            if word == ".version":
                major, _, minor = self._next().text.partition(".")
                version = (int(major), int(minor))
            elif word == ".target":
                target = self._next().text
                while self._accept(","):
                    self._next()
            elif word == ".address_size":
                if self._integer() != 64:
                    raise Unsupported(f"PTX line {token.line}: only 64-bit addresses are emulated")
            elif word in (".file", ".pragma"):
                self._skip_line(token.line)
            elif word == ".section":
                self._skip_section()
            elif word == ".entry":
                kernel = self._kernel()
                kernels[kernel.name] = kernel
            elif word == ".func":
                raise Unsupported(f"PTX line {token.line}: device functions (.func) are not emulated")
            elif word[1:] in SPACES:
                for variable in self._variables(word[1:]):
                    self._globals[variable.name] = variable
            elif word[0] == "." and word[1:] in _SILENT:
                continue
            else:
                raise Unsupported(f"PTX line {token.line}: {word!r} is not understood")
        if not target:
            raise Unsupported("no .target: this is no PTX")
        return Module(version, target, kernels)

    def _skip_section(self) -> None:
        """Debug information."""
        while self._next().text != "{":
            pass
        while self._next().text != "}":
            pass

    # -- declarations ---------------------------------------------------------------------------

    def _kernel(self) -> Kernel:
        name = self._next().text
        parameters: list[Parameter] = []
        if self._accept("("):
            while not self._accept(")"):
                parameters.append(self._parameter(parameters))
                self._accept(",")
        block, most = None, 0
        while self._peek() != "{":
            token = self._next()
            if token.text in (".reqntid", ".maxntid"):
                sizes = [self._integer()]
                while self._accept(","):
                    sizes.append(self._integer())
                sizes += [1] * (3 - len(sizes))
                if token.text == ".reqntid":
                    block = (sizes[0], sizes[1], sizes[2])
                most = sizes[0] * sizes[1] * sizes[2]
            elif token.text in (".minnctapersm", ".maxnreg"):
                self._integer()
            elif token.text in (".reqnctapercluster", ".explicitcluster", ".maxclusterrank"):
                raise Unsupported(
                    f"PTX line {token.line}: clusters of blocks ({token.text}) are not emulated"
                )
            elif token.text == ".pragma":
                self._next()
                self._accept(";")
            else:
                raise Unsupported(f"PTX line {token.line}: {token.text!r} is not understood")
        body = self._body()
        return Kernel(
            name, tuple(parameters), tuple(body.instructions), body.labels,
            {**self._globals, **body.variables}, block, most,
        )  # fmt: skip

    # -- statements -----------------------------------------------------------------------------

    def _body(self) -> _Body:
        body = _Body()
        self._expect("{")
        body.scopes.append({})
        while body.scopes:
            token = self._next()
            word = token.text
            if word == "{":
                body.opened += 1
                body.scopes.append({})
            elif word == "}":
                body.scopes.pop()
            elif word == ".reg":
                self._registers(body)
            elif word == ".loc":
                self._location(body, token.line)
            elif word[0] == "." and word[1:] in SPACES:
                for variable in self._variables(word[1:]):
                    body.variables[variable.name] = variable
            elif word == ".pragma":
                self._next()
                self._expect(";")
            elif word in (".branchtargets", ".calltargets", ".callprototype"):
                raise Unsupported(f"PTX line {token.line}: indirect branches and calls are not emulated")
            elif word == ";":
                continue
            elif token.kind == "word" and self._peek() == ":":
                self._at += 1
                body.labels[word] = len(body.instructions)
            else:
                self._at -= 1
                body.instructions.append(self._instruction(body))
        return body

    def _location(self, body: _Body, line: int) -> None:
        """.loc FILE LINE COLUMN, perhaps with the place that it was inlined at: the innermost counts."""
        file, number = self._next().text, self._integer()
        self._integer()
        body.place = Place(self._files.get(file, f"file {file}"), number) if number else body.place
        while self._accept(","):
            word = self._next().text
            if word == "function_name":
                self._next()
                if self._accept("+"):
                    self._integer()
            elif word == "inlined_at":
                for _ in range(3):
                    self._integer()
            else:
                raise Unsupported(f"PTX line {line}: {word!r} in .loc is not understood")

    def _registers(self, body: _Body) -> None:
        token = self._next()
        if token.text[1:] not in BITS:
            raise Unsupported(f"PTX line {token.line}: registers of type {token.text} are not emulated")
        bits = max(BITS[token.text[1:]], 16) if token.text != ".pred" else 1
        mark = f"@{body.opened}" if len(body.scopes) > 1 else ""
        while True:
            name = self._next().text
            if self._accept("<"):
                count = self._integer()
                self._expect(">")
                names = [f"{name}{k}" for k in range(count)]
            else:
                names = [name]
            for each in names:
                body.scopes[-1][each] = Register(each + mark, bits)
            if not self._accept(","):
                break
        self._expect(";")

    def _instruction(self, body: _Body) -> Instruction:
        first = self._at
        guard: Register | Not | None = None
        if self._accept("@"):
            contrary = self._accept("!")
            register = self._register(body, self._next())
            guard = Not(register) if contrary else register
        name = self._next()
        if name.kind != "word" or name.text[0] == ".":
            raise Unsupported(f"PTX line {name.line}: {name.text!r} is no instruction")
        opcode, *modifiers = re.split(r"\.", name.text)
        operands: list[Operand] = []
        try:
            if self._peek() != ";":
                operands.append(self._operand(body))
                while self._accept(","):
                    operands.append(self._operand(body))
        except Unsupported as error:
            raise Unsupported(f"{error}, in the instruction {name.text}") from error
        end = self._next()
        if end.text != ";":
            raise Unsupported(f"PTX line {end.line}: {end.text!r} in {name.text} is not understood")
        text = written([t.text for t in self._tokens[first : self._at - 1]])
        return Instruction(opcode, tuple(modifiers), tuple(operands), guard, name.line, body.place, text)

    def _register(self, body: _Body, token: Token) -> Register:
        for scope in reversed(body.scopes):
            if token.text in scope:
                return scope[token.text]
        raise Unsupported(f"PTX line {token.line}: the register {token.text} is not declared or not emulated")

    def _operand(self, body: _Body) -> Operand:
        operand = self._simple(body)
        if isinstance(operand, Symbol) and self._peek() == "+":
            line = self._tokens[self._at].line
            raise Unsupported(f"PTX line {line}: {operand.name}+… as a value is not emulated")
        if self._accept("|"):
            return Pair(operand, self._simple(body))
        return operand

    def _simple(self, body: _Body) -> Operand:
        token = self._next()
        if token.text == "{":
            items = [self._simple(body)]
            while self._accept(","):
                items.append(self._simple(body))
            self._expect("}")
            return Vector(tuple(items))
        if token.text == "[":
            return self._address(body)
        if token.text == "!":
            return Not(self._register(body, self._next()))
        if token.text == "-":
            return negative(self._next())
        if token.kind == "number":
            return number(token.text)
        if token.text == "_":
            return Sink()
        if token.kind != "word":
            raise Unsupported(f"PTX line {token.line}: {token.text!r} is not understood")
        for scope in reversed(body.scopes):
            if token.text in scope:
                return scope[token.text]
        if token.text in SPECIALS:
            return Special(token.text)
        if token.text[0] == "%":
            raise Unsupported(
                f"PTX line {token.line}: the register {token.text} is not declared or not emulated"
            )
        if token.text == "WARP_SZ":
            return Integer(32)
        return Symbol(token.text)

    def _address(self, body: _Body) -> Address:
        base = self._simple(body)
        if not isinstance(base, Register | Symbol | Integer):
            raise Unsupported(
                f"PTX line {self._tokens[self._at - 1].line}: an address of {base} is not emulated"
            )
        offset = 0
        while self._peek() in ("+", "-"):
            sign = 1 if self._next().text == "+" else -1
            sign = -sign if self._accept("-") else sign
            offset += sign * self._integer()
        self._expect("]")
        return Address(base, offset)
