"""Arb's working precision: one number for all threads of a process, so one of them at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import flint

# Another thread's precision would cost digits; its number of coefficients would cut a series short, and what
# is cut off reads as 0. Arb holds the interpreter's lock in any case: waiting here costs nothing.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def working_precision(bits: int, terms: int | None = None) -> Iterator[None]:
    """Arb's working precision in bits inside the block, and the number of a series' coefficients."""
    with _ONE_AT_A_TIME:
        before = flint.ctx.prec, flint.ctx.cap
        flint.ctx.prec = bits
        if terms is not None:
            flint.ctx.cap = terms
        try:
            yield
        finally:
            flint.ctx.prec, flint.ctx.cap = before


__all__ = ["working_precision"]
