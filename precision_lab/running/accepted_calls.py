"""Which calls a kernel accepts, found by trying where it refuses a plain one."""

from __future__ import annotations

from collections.abc import Callable

from precision_lab.exceptions import KernelError
from precision_lab.implementations.contract import CallContract
from precision_lab.running.case import Case
from precision_lab.running.runner import attempt

REFUSALS = ("raised", "wrong_shape")  # what a wrapper gives that refuses a size or shape; others may, too

Attempt = Callable[[tuple[int, ...]], KernelError | None]

# Sizes that wrappers ask for: of a vector load, a warp, a block.
MULTIPLES = (
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 100, 128, 192, 256, 384, 512, 1000, 1024,
    2048, 4096, 8192, 16384, 32768, 65536,
)  # fmt: skip
# So many of a size that the products are multiples of no larger size: these are primes.
_TIMES = {1: (4099, 4111), 64: (67, 71), 1024: (5, 7), 8192: (1, 3)}
_TIMES_OF_ROWS = {1: (61, 67), 128: (11, 13), 1024: (5, 7), 8192: (1, 3)}


def find_contract(attempt: Attempt) -> CallContract | None:
    """The widest contract of a few likely ones that a kernel keeps; None where it refuses them all.

    Args:
        attempt: what the kernel raises for x of a shape, or None.
    """
    for dims in (1, 2, 3, 4):
        rows = (1,) if dims == 1 else (16, 6, 4)[: dims - 1]
        front = rows if dims > 1 else ()
        if dims > 1 and attempt((*front, 4096)) is not None:
            continue
        for multiple in MULTIPLES:
            known = _TIMES if dims == 1 else _TIMES_OF_ROWS
            times = next(t for least, t in reversed(known.items()) if multiple >= least)
            if all(attempt((*front, multiple * k)) is None for k in times):
                return CallContract(multiple, () if dims == 1 else ((None,) * dims,))
    return None


def undeclared_contract(
    case: Case, announce: Callable[[str], None] = lambda words: None
) -> CallContract | None:
    """What a kernel accepts that declares no contract; None where that is everything or nothing.

    Args:
        announce: told what the kernel is called with, before it is.
    """

    def refused(shape: tuple[int, ...]) -> KernelError | None:
        announce(f"x of shape {shape}, to find out what is accepted")
        return attempt(case, shape)

    found = find_contract(refused) if case.implementation.contract.is_free else None
    return None if found is None or found.is_free else found
