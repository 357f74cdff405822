"""How torch launches its elementwise CUDA kernels, read off their names and their machine code.

`vectorized_elementwise_kernel<WIDTH, FUNCTOR, std::array<char*, POINTERS>, …>` takes the number of elements,
the functor and the pointers, that of the output first. Its blocks have 128 threads (`num_threads()` in
`ATen/cuda/detail/KernelUtils.h` and what the kernel says itself); how many elements a block has is the
constant by which the kernel multiplies the block's number.

Inputs of a gradient stand in the order of the functor's arguments. Which one is the upstream was measured: of
`tanh_backward` and the like both orders were tried, and one gives the derivative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from precision_lab.emulator.sass.code import Operand, SassInstruction, SassKernel
from precision_lab.exceptions import UsageError

BLOCK = 128
_VECTORISED = re.compile(
    r"\bvectorized_elementwise_kernel<(\d+), (.*), std::array<char ?\*, (\d+)ul>(?:, (?:true|false))?>\("
)
_FUNCTOR = re.compile(r"(\w+)\((?:[^()]|\([^()]*\))*\)(?:::\{lambda\(\)#(\d+)\})?")
_ARGUMENTS = re.compile(r"\{lambda\(([^()]*)\)#\d+\}$")
# (upstream, x) but where another order or another input was found.
_INPUTS = {
    "log_sigmoid_backward": ("x", "dy"), "tanh_backward": ("dy", "result"),
    "sigmoid_backward": ("dy", "result"),
}  # fmt: skip


@dataclass(frozen=True)
class Vectorised:
    """One of torch's elementwise kernels.

    Attributes:
        width: elements that it loads at a time.
        operation: the function of torch's that launches it, such as "silu_backward_kernel".
        variant: which of that function's launches it is; 0 where there is one.
        types: of the functor's arguments.
        pointers: how many it takes.
    """

    width: int
    operation: str
    variant: int
    types: tuple[str, ...]
    pointers: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its inputs are, in launch descriptions."""
        if self.pointers == 2:
            return ("x",)
        return next(
            (found for name, found in _INPUTS.items() if self.operation.startswith(name)), ("dy", "x")
        )

    def backward_operations(self) -> Iterator[str]:
        """What the kernel of its gradient may be called, as torch names them."""
        for ending in ("_kernel", "CUDAKernelImpl"):
            before, found, behind = self.operation.rpartition(ending)
            if found:
                stem = before.removeprefix("launch_").removesuffix("_forward")
                for rest in dict.fromkeys((behind, "")):
                    yield f"{stem}{'_backward' if ending[0] == '_' else 'Backward'}{ending}{rest}"


def vectorised(name: str) -> Vectorised | None:
    """What a demangled name says; None for any other kernel."""
    found = _VECTORISED.search(name)
    if found is None:
        return None
    functor = found.group(2)
    operation, arguments = _FUNCTOR.search(functor), _ARGUMENTS.search(functor)
    if operation is None or arguments is None:
        return None
    types = tuple(t.strip() for t in arguments.group(1).split(","))
    return Vectorised(
        int(found.group(1)), operation.group(1), int(operation.group(2) or 0), types, int(found.group(3))
    )


def arguments_of(kernel: Vectorised, functor_bytes: int, functor_is_empty: bool) -> tuple[str, ...]:
    """What its parameters stand for, in the words of a launch description.

    Raises:
        ValueError: its functor holds values that its name does not say, or it is no function of one number.
    """
    inputs = kernel.inputs
    if kernel.pointers != 1 + len(inputs):
        raise UsageError(
            f"{kernel.operation} takes {kernel.pointers} pointers: it is no function of one number, nor the "
            "gradient of one"
        )
    if not functor_is_empty:
        raise UsageError(
            f"the functor of {kernel.operation} holds {functor_bytes} bytes of values that its name does not "
            f"say; give them, as in --launch 'n, {{alpha, 1.0, 1.0}}, {{y, x}}'"
        )
    return "n", "{}", f"{{{', '.join(('dx' if len(inputs) > 1 else 'y', *inputs))}}}"


def elements_of_a_block(kernel: SassKernel) -> int:
    """By what the kernel multiplies the number of its block.

    Raises:
        ValueError: that is not found.
    """
    holds: Operand | None = None
    for i in kernel.code:
        if holds is None:
            if i.opcode in ("S2R", "S2UR") and i.arguments[1].name == "SR_CTAID.X":
                holds = i.arguments[0]
        elif _same(holds, i.arguments[1:2]):
            if found := _factor(i):
                return found
            break
        elif _same(holds, i.arguments[:1]):
            break
    raise UsageError(f"{kernel.name}: how many elements a block has is not seen; say per_thread= in --launch")


def _same(register: Operand, operands: tuple[Operand, ...]) -> bool:
    return any((o.kind, o.number) == (register.kind, register.number) for o in operands)


def _factor(i: SassInstruction) -> int:
    """Of a shift to the left or a product by a constant, perhaps with a sum; 0 of any other instruction."""
    shifts = {"SHF": 2, "USHF": 2, "LEA": 3, "ULEA": 3}
    at = shifts.get(i.opcode, 2)
    by = i.arguments[at] if len(i.arguments) > at else None
    if by is None or by.kind != "number":
        return 0
    if i.opcode in shifts:
        return 0 if "R" in i.modifiers else 1 << by.number
    return by.number if i.opcode in ("IMAD", "UIMAD") else 0
