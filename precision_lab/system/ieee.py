"""Whether this thread computes as IEEE 754 says; where it does not, no module of the lab's is loaded.

Python folds constants and reads decimal numbers with the thread's own arithmetic, and keeps what it compiled.
While subnormals are flushed or rounding is upward, 2**-1074 is 0 and 0.8 is another number: in bounds of the
oracle, and for every later process too, out of `__pycache__`. So numbers in here are made of bits.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from types import ModuleType

from precision_lab.exceptions import EnvironmentAltersResultsError

# Without numbers that anything depends on.
_HARMLESS = ("precision_lab.exceptions", "precision_lab.system.ieee", "precision_lab.__main__")
_FRACTION = 52  # bits of a float64's pattern below its exponent


def power_of_two(exponent: int) -> float:
    """2^exponent as a float64, from -1074 up to 1023, whatever the thread does to arithmetic."""
    pattern = 1 << (exponent + 1074) if exponent < -1022 else (exponent + 1023) << _FRACTION
    value: float = struct.unpack("=d", struct.pack("=q", pattern))[0]
    return value


def flushes() -> str:
    """What operations on float64 flush in this thread: "", "outputs", "inputs" or "outputs and inputs"."""
    half, large = power_of_two(-1), power_of_two(1000)
    # A subnormal operand read as zero gives 0; the product itself is normal.
    flushed = {
        "outputs": power_of_two(-1022) * half == 0,
        "inputs": power_of_two(-1074) * large == 0,
    }
    return " and ".join(name for name, found in flushed.items() if found)


def rounds_to_nearest() -> bool:
    """Whether sums of float64 are rounded to nearest, ties to even."""
    one, half = power_of_two(0), power_of_two(-53)
    # 1 + 2^-53 is a tie that goes down to even, 1 + 3·2^-53 one that goes up; both only to nearest.
    return bool(one + half == one and one + (half + half + half) == one + power_of_two(-51))


def flushing(what: str, undone: str = "Nothing was measured") -> EnvironmentAltersResultsError:
    """The error of a thread that flushes these; the rest as in `require`."""
    return EnvironmentAltersResultsError(
        f"this process flushes subnormal {what} to zero; torch.set_flush_denormal(True) or a library built "
        f"with fast-math switched it on. {undone}: call torch.set_flush_denormal(False) and do it again"
    )


def require(undone: str = "Nothing was measured") -> None:
    """Refuses to go on where arithmetic is altered in this thread.

    Args:
        undone: a sentence, without its stop, on what is left undone.

    Raises:
        EnvironmentAltersResultsError: names the switch that is usually responsible.
    """
    if flush := flushes():
        raise flushing(flush, undone)
    if not rounds_to_nearest():
        raise EnvironmentAltersResultsError(
            f"this process does not round to nearest. {undone}: restore the rounding mode and do it again"
        )


class Loading:
    """An entry of `sys.meta_path` that finds nothing and lets no module of the lab's be loaded wrongly."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.startswith("precision_lab.") and name not in _HARMLESS:
            require(f"{name} was not loaded")


def guard_loading() -> None:
    """From now on a thread that does not compute IEEE arithmetic cannot import the lab's modules."""
    if Loading not in sys.meta_path:
        sys.meta_path.insert(0, Loading)
