"""Threads whose arithmetic is altered: subnormals flushed, or rounding upward."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

MATH = ctypes.util.find_library("m")
# What C's fesetround takes; None where no library is known whose rounding mode can be set from here.
UPWARD = {"x86_64": 0x800, "AMD64": 0x800, "aarch64": 0x400000}.get(platform.machine()) if MATH else None
NEEDS_UPWARD = pytest.mark.skipif(UPWARD is None, reason="no C library that sets the rounding mode")
ROUND_UPWARD = f"import ctypes\nassert ctypes.CDLL({MATH!r}).fesetround({UPWARD}) == 0\n"


@contextmanager
def switched(kind: str) -> Iterator[None]:
    """Altered arithmetic in this thread."""
    if kind == "upward":
        if UPWARD is None:
            pytest.skip("no C library that sets the rounding mode")
        library = ctypes.CDLL(MATH)
        assert library.fesetround(UPWARD) == 0
        try:
            yield
        finally:
            library.fesetround(0)
        return
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
