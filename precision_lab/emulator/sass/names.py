"""Names of C++ functions as their authors wrote them."""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from typing import Any

# Each has the function that the C++ ABI demands; torch loads one of them.
_LIBRARIES = ("libstdc++.so.6", "libc++abi.so.1", "libc++.1.dylib")


@cache
def _demangler() -> Any:
    for name in _LIBRARIES:
        try:
            found = ctypes.CDLL(name).__cxa_demangle
        except (OSError, AttributeError):
            continue
        found.restype = ctypes.c_void_p
        found.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
        return found
    return None


@lru_cache(maxsize=1 << 14)
def demangled(name: str) -> str:
    """The name as C++ writes it; as it is where it is no mangled one, or no C++ runtime is here."""
    demangle = _demangler()
    if demangle is None or not name.startswith("_Z"):
        return name
    status = ctypes.c_int()
    at = demangle(name.encode(), None, None, ctypes.byref(status))
    if not at:
        return name
    try:
        return ctypes.string_at(at).decode()
    finally:
        free = ctypes.CDLL(None).free
        free.argtypes = [ctypes.c_void_p]
        free(at)
