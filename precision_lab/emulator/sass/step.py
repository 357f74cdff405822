"""What every family of instructions is built with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.lanes import Mask
from precision_lab.emulator.sass.code import Operand, SassInstruction
from precision_lab.emulator.sass.lanes import SassLanes

Step: TypeAlias = Callable[[SassLanes, Mask], None]
Builder: TypeAlias = Callable[[SassInstruction], Step]


class Words:
    """An instruction's modifiers; what nobody has asked for is not emulated."""

    def __init__(self, i: SassInstruction) -> None:
        self._i, self._left = i, list(i.modifiers)

    def flag(self, *names: str) -> bool:
        found = [n for n in names if n in self._left]
        for name in found:
            self._left.remove(name)
        return bool(found)

    def one_of(self, names: Collection[str], default: str = "") -> str:
        for word in self._left:
            if word in names:
                self._left.remove(word)
                return word
        return default

    def end(self) -> None:
        """
        Raises:
            Unsupported: there is a modifier that nobody has asked for.
        """
        if self._left:
            raise unsupported(self._i, f"modifier .{self._left[0]}")


def split(i: SassInstruction, sources: int) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """Destinations, predicates among them, and the last `sources` operands or fewer behind them.

    Raises:
        Unsupported: there are too few.
    """
    if len(i.arguments) <= sources:
        raise unsupported(i, f"{len(i.arguments)} operands")
    return i.arguments[:-sources], i.arguments[-sources:]
