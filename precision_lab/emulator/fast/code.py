"""LLVM's assembly language as it is written: one function's text, and the functions that it calls.

Values are names or constants, as they stand in the text; types are written with each operation. No operation
has fast-math flags, so LLVM neither contracts products into sums nor assumes anything about NaN or zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Rounding modes of PTX, in the numbers of llvm.set.rounding.
ROUNDING = {"rz": 0, "rn": 1, "rp": 2, "rm": 3}
FLOAT = {32: "float", 64: "double"}
_F = {"float": "f32", "double": "f64"}


class Library:
    """Functions beside the one that is written, each once, and declarations."""

    def __init__(self) -> None:
        self._functions: dict[str, str] = {}
        self._declared: dict[str, str] = {}

    def text(self) -> str:
        return "\n".join([*self._declared.values(), *self._functions.values()])

    def declare(self, name: str, result: str, types: Sequence[str]) -> None:
        self._declared[name] = f"declare {result} @{name}({', '.join(types)})"

    def define(
        self, name: str, result: str, types: Sequence[str], body: Callable[..., str], attributes: str = ""
    ) -> None:
        """A function of this name, unless there is one; `body` writes it and returns the value it gives."""
        if name in self._functions:
            return
        self._functions[name] = ""
        code = Code(self)
        names = [f"%a{k}" for k in range(len(types))]
        value = body(code, *names)
        arguments = ", ".join(f"{t} {n}" for t, n in zip(types, names, strict=True))
        lines = "\n".join(code.lines)
        self._functions[name] = (
            f"define internal {result} @{name}({arguments}) {attributes or 'nounwind memory(none)'} {{\n"
            f"{lines}\n  ret {result} {value}\n}}"
        )


class Code:
    """The text of one function."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.lines: list[str] = []
        self._count = 0

    def value(self, text: str) -> str:
        """The name of what an operation gives."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, what: str = "l") -> str:
        """A new name for a place."""
        self._count += 1
        return f"{what}{self._count}"

    def place(self, label: str) -> None:
        """What follows stands at the label; what came before goes on there unless it went elsewhere."""
        if not self.ended:
            self.do(f"br label %{label}")
        self.lines.append(f"{label}:")

    @property
    def ended(self) -> bool:
        """Whether the last operation leaves for elsewhere."""
        return bool(self.lines) and self.lines[-1].startswith(("  br ", "  ret ", "  switch "))

    # -- operations that are written often --------------------------------------------------------

    def cast(self, how: str, from_type: str, value: str, to_type: str) -> str:
        return value if from_type == to_type else self.value(f"{how} {from_type} {value} to {to_type}")

    def resized(self, value: str, bits: int, to: int, *, signed: bool = False) -> str:
        """An integer of other width: cut, or extended."""
        how = "trunc" if to < bits else "sext" if signed else "zext"
        return self.cast(how, f"i{bits}", value, f"i{to}")

    def select(self, condition: str, kind: str, a: str, b: str) -> str:
        return self.value(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def to_float(self, bits: str, width: int) -> str:
        return self.value(f"bitcast i{width} {bits} to {FLOAT[width]}")

    def to_bits(self, value: str, width: int) -> str:
        return self.value(f"bitcast {FLOAT[width]} {value} to i{width}")

    def constant(self, value_bits: int, width: int) -> str:
        """A floating-point constant by its bits."""
        return self.to_float(str(value_bits), width)

    def call(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """What a function gives for arguments of (type, value)."""
        return self.value(f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in arguments)})")

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """What one of LLVM's own functions gives; `name` with its types."""
        self.library.declare(name, result, [t for t, _ in arguments])
        return self.call(name, result, *arguments)

    def fabs(self, value: str, kind: str) -> str:
        return self.intrinsic(f"llvm.fabs.{_F[kind]}", kind, (kind, value))

    def minimum(self, signed: str, kind: str, a: str, b: str) -> str:
        """Of integers; `signed` is "s" or "u"."""
        return self.intrinsic(f"llvm.{signed}min.{kind}", kind, (kind, a), (kind, b))

    def maximum(self, signed: str, kind: str, a: str, b: str) -> str:
        return self.intrinsic(f"llvm.{signed}max.{kind}", kind, (kind, a), (kind, b))

    def rounded(self, operation: str, mode: str, kind: str, *values: str, source: str = "") -> str:
        """What one operation gives in a rounding mode other than to nearest.

        A function of its own sets the mode, computes and sets it back; operations that are "constrained"
        heed a mode that is set while the program runs, and LLVM does not move them past where it is set
        (LLVM Language Reference, "Constrained Floating-Point Intrinsics", with fpexcept.strict).

        Args:
            operation: fadd, fsub, fmul, fdiv, sqrt, fma, sitofp or uitofp.
            source: the type of the arguments; that of the result unless it says otherwise.
        """
        source = source or kind
        types = [source] * len(values)
        inner = f"llvm.experimental.constrained.{operation}.{_F[kind]}" + (
            f".{source}" if source != kind else ""
        )
        self.library.declare(inner, kind, [*types, "metadata", "metadata"])
        self.library.declare("llvm.set.rounding", "void", ["i32"])
        name = f"{operation}.{mode}.{kind}.{source}"

        def body(code: Code, *names: str) -> str:
            code.do(f"call void @llvm.set.rounding(i32 {ROUNDING[mode]}) strictfp")
            given = ", ".join(f"{source} {n}" for n in names)
            result = code.value(
                f'call {kind} @{inner}({given}, metadata !"round.dynamic", metadata !"fpexcept.strict") '
                "strictfp"
            )
            code.do(f"call void @llvm.set.rounding(i32 {ROUNDING['rn']}) strictfp")
            return result

        self.library.define(name, kind, types, body, "noinline nounwind strictfp")
        return self.call(name, kind, *[(source, v) for v in values])
