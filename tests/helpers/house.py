"""How the package is built: its rooms, the floors they stand on, circles of imports. Runs on any checkout.

    python tests/helpers/house.py [CHECKOUT]

A room is a folder or a module of the package's top level. A room stands a floor above the highest of those
that it imports from.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


def modules(package: Path) -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


def own_imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, those for type checking and inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(known)


def room(module: str) -> str:
    """The part of the package's top level that a module belongs to; "" for the package's own face."""
    return module.split(".")[1] if "." in module else ""


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One circle after the other, each taken apart at its first arrow before the next is looked for."""
    graph = {name: set(others) for name, others in graph.items()}
    found: list[list[str]] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = list(error.args[1])
            found.append(circle)
            # A path of the sorter's runs against the imports.
            graph[circle[1]].discard(circle[0])
        else:
            return found


def graph_of(package: Path) -> dict[str, set[str]]:
    """Which modules each module imports; the package's face is no room."""
    known = modules(package)
    return {
        name: own_imports(path, known) - {name, package.name}
        for name, path in known.items()
        if room(name) not in ("", "__main__")
    }


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room; rooms in a circle share one."""
    found: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            return 0
        if name not in found:
            below = [floor(other, (*above, name)) for other in rooms[name]]
            found[name] = 1 + max(below, default=0)
        return found[name]

    for name in rooms:
        floor(name, ())
    return found


def describe(checkout: Path) -> str:
    graph = graph_of(checkout / "precision_lab")
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        rooms.setdefault(room(name), set()).update(room(other) for other in others)
    rooms = {name: others - {name} for name, others in rooms.items()}
    levels = floors(rooms)
    found = circles(graph)
    lines = [
        f"rooms {len(rooms)}, floors {max(levels.values())}, "
        f"arrows between rooms {sum(map(len, rooms.values()))}, circles of modules {len(found)}"
    ]
    for level in range(max(levels.values()), 0, -1):
        lines.append(f"floor {level:2}  {' '.join(sorted(n for n, f in levels.items() if f == level))}")
    lines += [f"circle  {' → '.join(reversed(circle))}" for circle in found]
    return "\n".join(lines)


if __name__ == "__main__":
    print(describe(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
