"""What the threads of a batch share: memory spaces, arguments, and the order between threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from precision_lab.emulator.reference.spaces import Order, Space

# Generic addresses of shared and of local memory begin here; those of global memory are the host's, below.
SHARED_WINDOW, LOCAL_WINDOW = 1 << 56, 1 << 57


@dataclass
class Machine:
    """
    Attributes:
        arguments: of the launch, as a kernel finds them.
        parameters: offsets in them, by name.
        spaces: by name.
    """

    arguments: bytes
    parameters: Mapping[str, int]
    spaces: Mapping[str, Space]
    order: Order

    def space(self, name: str) -> Space:
        return self.spaces["global" if name == "const" else name]
