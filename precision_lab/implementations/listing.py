"""The code of a formulation as it can be pasted: its function, and what of its module that needs."""

from __future__ import annotations

import ast
import functools
import inspect
import symtable
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from precision_lab.implementations.base import Implementation

Import = ast.Import | ast.ImportFrom


def listing(implementation: Implementation) -> str:
    """Python that imports or defines the formulation, and runs in a module of its own.

    Returns:
        "" where there is no such code: what a file compiles, and objects that are no plain function.
    """
    if implementation.import_line:
        return implementation.import_line
    kernel = implementation.kernel
    return source(kernel) if inspect.isfunction(kernel) else ""


def source(function: Callable[..., Any]) -> str:
    """A function's definition after the imports, constants and definitions of its module that it uses.

    Returns:
        "" where its module's text is not to be had, or the function is nested in another.
    """
    module = sys.modules.get(function.__module__)
    if module is None or function.__qualname__ != function.__name__:
        return ""
    try:
        parsed = _Module.of(module)
    except (OSError, TypeError, SyntaxError):
        return ""
    return parsed.text(function.__name__)


class _Module:
    """The statements of a module, and by name the one that binds it."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.statements = ast.parse(text).body
        self.binding = {name: i for i, found in enumerate(self.statements) for name in _bound(found)}

    @staticmethod
    @functools.cache
    def of(module: ModuleType) -> _Module:
        return _Module(inspect.getsource(module))

    def text(self, name: str) -> str:
        """The statement that binds a name, after all that it needs; "" where there is none."""
        needed: dict[int, set[str]] = {}
        waiting = [name]
        while waiting:
            found = waiting.pop()
            index = self.binding.get(found)
            if index is None or found in needed.get(index, ()):
                continue
            needed.setdefault(index, set()).add(found)
            if not isinstance(self.statements[index], Import):
                waiting += _used(symtable.symtable(self._lines(self.statements[index]), "", "exec"))
        written, text = "", ""
        for index, names in sorted(needed.items()):
            statement = self.statements[index]
            kind = type(statement).__name__.removesuffix("From")
            plain = kind == written == "Import"
            definition = {kind, written} & {"FunctionDef", "ClassDef"}
            text += "" if not written else "\n" if plain else "\n\n\n" if definition else "\n\n"
            text += self._written(statement, names)
            written = kind
        return text

    def _written(self, statement: ast.stmt, names: Iterable[str]) -> str:
        if isinstance(statement, Import):
            used = [alias for alias in statement.names if _name(alias) in names]
            shortened: Any = type(statement)(**{**dict(ast.iter_fields(statement)), "names": used})
            return ast.unparse(shortened)
        return self._lines(statement)

    def _lines(self, statement: ast.stmt) -> str:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        return "\n".join(self.lines[first - 1 : statement.end_lineno])


def _bound(statement: ast.stmt) -> list[str]:
    """Names that a plain statement binds."""
    match statement:
        case ast.Import() | ast.ImportFrom():
            return [_name(alias) for alias in statement.names]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _used(scope: symtable.SymbolTable) -> list[str]:
    """Names of the module that a scope and those in it take, not their own arguments and variables."""
    outermost = scope.get_type() == "module"
    names = [s.get_name() for s in scope.get_symbols() if (s.is_referenced() if outermost else s.is_global())]
    return names + [name for inner in scope.get_children() for name in _used(inner)]


def _name(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


__all__ = ["listing", "source"]
