"""Reading an instruction's modifiers one by one, so that none is passed over."""

from __future__ import annotations

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction


class Modifiers:
    """What stands between the dots; each must be taken by somebody before `end`."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self._left = list(instruction.modifiers)

    def type(self, *known: str) -> str:
        """The last one.

        Raises:
            Unsupported: it is none of the known.
        """
        last = self._left.pop() if self._left else ""
        if last not in known:
            raise unsupported(self.instruction, f"type .{last}")
        return last

    def flag(self, name: str) -> bool:
        """Whether it is there."""
        if name in self._left:
            self._left.remove(name)
            return True
        return False

    def one_of(self, *names: str, default: str = "") -> str:
        """The first of the names that is there."""
        return next((name for name in names if self.flag(name)), default)

    def ignore(self, *names: str) -> None:
        """Takes what says nothing about the values that are computed."""
        for name in names:
            self.flag(name)

    def end(self) -> None:
        """
        Raises:
            Unsupported: one was not taken.
        """
        if self._left:
            raise unsupported(self.instruction, f"modifier .{self._left[0]}")
