"""How a CUDA kernel is launched: read off its source, or said by its author.

    // precision_lab: silu(x, y, alpha_p, n) block=256 per_thread=4 backward=silu_grad(dy, x, alpha_p, dx, n)

An argument is `x`, `y`, `dy` (upstream), `dx`, `n` (elements), a parameter of the function, `d_NAME` for its
gradient of each element, `null`, or a whole number computed of n, such as `ceil(n/2)`. Beside them stand
`block=` (threads of a block, 256), `per_thread=` (elements, 1), `grid=` (`ceil(n/(block*per_thread))`),
`shared=` (bytes), `format=` (where name and types do not say it), `options=` (of the compiler, with commas
between them) and `backward=`.

Of machine code no types are known, and a parameter may be a struct of several values:

    n, {}, {y, x}
    n, {alpha, 1.0, 1.0}, {y, x} backward=elu_backward_kernel(n, {alpha, 1.0, 1.0, char(0)}, {dx, dy, x})

`{…}` lays out its values as C does; `{}` is a struct without any. A kernel that reads bytes of a struct that
are not given is refused. Numbers with a point are
float, whole ones int, a parameter of the function is float; `double(…)`, `float(…)`, `long(…)`, `int(…)`,
`short(…)` and `char(…)` say another type. `result` is what the forward kernel returned, for gradients that
are computed of that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from precision_lab.exceptions import UsageError, unknown_name

BLOCK = 256
GRID = "ceil(n/(block*per_thread))"
_KEYS = ("block", "per_thread", "grid", "shared", "format", "options", "backward")
_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STATED = re.compile(r"^[ \t/*#]*precision_lab:[ \t]*(.*?)[ \t]*(?:\*/)?[ \t]*$", re.MULTILINE)
_NESTED = r"\((?:[^()]|\([^()]*\))*\)"
_KEY = re.compile(rf"(?:^|(?<=[\s;]))([a-z_]+)\s*=\s*((?:[^\s;()]|{_NESTED})+)")
_WITHIN = r"[^<>()=]"
# As C++ or PTX name it, perhaps an instantiated template, whose arguments may be templates, too.
KERNEL = re.compile(rf"[\w:$]+(?:<(?:{_WITHIN}|<(?:{_WITHIN}|<{_WITHIN}*>)*>)*>)?")
_NAMED = re.compile(rf"({KERNEL.pattern})\s*\((.*)\)", re.DOTALL)
_KERNEL = re.compile(
    r"__global__\s+(?:(?:static|inline|__forceinline__|__launch_bounds__\s*\([^)]*\))\s+)*void\s+"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^()]*)\)"
)
_TEMPLATE = re.compile(r"template\s*<([^<>]*)>\s*(?:(?:static|inline)\s+)*\Z")
# What parameters are called in kernels that people publish.
_INPUTS = ("x", "in", "input", "inp", "src", "X")
_OUTPUTS = ("y", "out", "output", "dst", "res", "result", "Y")
_COUNTS = ("n", "N", "size", "numel", "count", "length", "len", "num_elements", "n_elements", "total")
_UPSTREAM = ("dy", "dout", "d_out", "grad_output", "grad_out", "gout", "upstream", "grad_y", "grad")
_GRADIENT = ("dx", "din", "d_in", "grad_input", "grad_in", "grad_x", "gradient")


@dataclass(frozen=True)
class CParameter:
    """A parameter in a kernel's source; `element` is its type, or that of what it points to."""

    name: str
    element: str
    pointer: bool
    constant: bool

    def __str__(self) -> str:
        return f"{'const ' * self.constant}{self.element} {'*' * self.pointer}{self.name}"


@dataclass(frozen=True)
class Signature:
    """A kernel in the source; `types` are the names of its template's parameters."""

    name: str
    parameters: tuple[CParameter, ...]
    types: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})"


@dataclass(frozen=True)
class Description:
    """How one kernel is launched; `arguments` is None where only its source says it."""

    kernel: str = ""
    arguments: tuple[str, ...] | None = None
    block: int = BLOCK
    per_thread: int = 1
    grid: str = GRID
    shared: str = "0"
    format: str = ""
    options: tuple[str, ...] = ()
    backward: str = ""

    def blocks(self, n: int) -> int:
        return self.number(self.grid, n)

    def number(self, expression: str, n: int) -> int:
        """A whole number computed of n, block and per_thread.

        Raises:
            ValueError: it is none.
        """
        return evaluated(expression, {"n": n, "block": self.block, "per_thread": self.per_thread})


def read_description(text: str) -> Description:
    """A description as its author wrote it.

    Raises:
        ValueError: it is not understood.
    """
    found = list(_KEY.finditer(text))
    head = (text[: found[0].start()] if found else text).strip(" \t;,")
    rest = text[found[0].start() :] if found else ""
    left = _KEY.sub("", rest).strip(" \t;,")
    if left:
        raise UsageError(f"launch description {text!r}: {left!r} is not understood; expected key=value")
    named = _NAMED.fullmatch(head)
    name, inside = (named.group(1), named.group(2)) if named else ("", head)
    described = Description(name, tuple(a.strip() for a in split(inside)) if inside.strip() else None)
    values: dict[str, Any] = {}
    for match in found:
        key, value = match.groups()
        if key not in _KEYS:
            raise unknown_name("key of a launch description", key, _KEYS)
        if key in ("block", "per_thread"):
            if not value.isdecimal() or int(value) < 1:
                raise UsageError(f"launch description {text!r}: {key}={value} must be a whole number above 0")
            values[key] = int(value)
        else:
            values[key] = tuple(value.split(",")) if key == "options" else value
    described = replace(described, **values)
    for expression in (described.grid, described.shared):
        described.number(expression, 1)
    return described


def stated(source: str) -> tuple[Description, ...]:
    """The descriptions in a file's comments."""
    return tuple(read_description(match.group(1)) for match in _STATED.finditer(source))


def signatures(source: str) -> dict[str, Signature]:
    """The kernels that stand in a source as such, and not behind a macro; each name once.

    Of functions of one name with other parameters, in two namespaces say, none is told from the other.
    """
    bare = _COMMENTS.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), source)
    found: dict[str, Signature] = {}
    ambiguous = set()
    for match in _KERNEL.finditer(bare):
        name, inside = match.groups()
        template = _TEMPLATE.search(bare[: match.start()])
        types = split(template.group(1)) if template else []
        signature = Signature(
            name,
            tuple(_parameter(p) for p in split(inside) if p.strip() not in ("", "void")),
            tuple(re.sub(r"\s*=.*", "", t).split()[-1] for t in types),
        )
        if found.setdefault(name, signature) != signature:
            ambiguous.add(name)
    return {name: signature for name, signature in found.items() if name not in ambiguous}


def arguments_of(signature: Signature, parameters: Sequence[str], *, backward: bool) -> tuple[str, ...]:
    """What a kernel's parameters stand for, by what they are called.

    Raises:
        ValueError: one of them is not known.
    """
    return tuple(_meaning(p, signature, parameters, backward) for p in signature.parameters)


def example(signature: str, parameters: Sequence[str]) -> str:
    """The end of a sentence that asks for a description."""
    own = f", {', '.join(parameters)} (and d_NAME)" if parameters else ""
    return (
        f"say what its parameters stand for, as in `// precision_lab: {signature} block=256` in the file "
        f"or with --launch: x, y, dy, dx, n{own}, whole numbers or null"
    )


def _meaning(p: CParameter, signature: Signature, parameters: Sequence[str], backward: bool) -> str:
    if p.name in parameters:
        return p.name
    for prefix in ("d_", "grad_", "d"):
        if p.pointer and p.name.startswith(prefix) and p.name[len(prefix) :] in parameters:
            return f"d_{p.name[len(prefix) :]}"
    places = [(_INPUTS, True, "x"), (_COUNTS, False, "n")]
    places += [(_UPSTREAM, True, "dy"), (_GRADIENT, True, "dx")] if backward else [(_OUTPUTS, True, "y")]
    for names, pointer, meaning in places:
        if p.name in names and p.pointer == pointer:
            return meaning
    shown = f"{signature.name}(x, y, n)" if not backward else f"{signature.name}(dy, x, dx, n)"
    raise UsageError(f"{signature}: what {p.name!r} stands for is not known; {example(shown, parameters)}")


def _parameter(text: str) -> CParameter:
    text = re.sub(r"=.*", "", text)
    words = re.findall(r"[\w:]+|\*|&|\[", text)
    name = next((w for w in reversed(words) if re.match(r"[A-Za-z_]", w)), "")
    kept = [w for w in words if re.match(r"[A-Za-z_]", w) and "restrict" not in w]
    element = " ".join(w for w in kept[:-1] if w not in ("const", "volatile"))
    return CParameter(name, element, "*" in words or "[" in words, "const" in words)


def split(text: str) -> list[str]:
    """At commas that no bracket holds."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "([<{") - (c in ")]>}")
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    return [*parts, part] if part.strip() else parts


_OPERATIONS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
}


def evaluated(expression: str, names: Mapping[str, int]) -> int:
    """A whole number of numbers, names, + - * //, and ceil(a/b), min and max.

    Raises:
        ValueError: it is something else.
    """

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return int(_OPERATIONS[type(node.op)](value(node.left), value(node.right)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id in ("min", "max") and node.args:
                return (min if node.func.id == "min" else max)(value(a) for a in node.args)
            inner = node.args[0] if len(node.args) == 1 else None
            if node.func.id == "ceil" and isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div):
                return -(-value(inner.left) // value(inner.right))
        raise ValueError(ast.unparse(node))

    try:
        return value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError) as error:
        known = ", ".join(names)
        raise UsageError(
            f"{expression!r} is no whole number computed of {known} with + - * //, ceil(a/b), min and max"
        ) from error
