"""How the oracle's loops are compiled: no fast-math, no contraction, the GIL released, cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

# Without fast-math LLVM neither contracts a·b + c nor reorders sums: every operation below rounds once,
# as it is written, on every machine. Division by zero gives IEEE's answer instead of raising, which
# is also what lets loops become vector code.
_njit: Any = numba.njit
_OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy", "boundscheck": False}


@lru_cache(maxsize=1)
def source_stamp() -> str:
    """Digest of everything compiled code here is made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compiled(function: F) -> F:
    """`function` compiled by numba, for use inside other compiled functions: not cached by itself."""
    return cast(F, _njit(**_OPTIONS)(function))


def entry(function: F) -> F:
    """A compiled function that Python calls, kept in numba's disk cache where there is a folder to write to.

    Numba looks only at the file a function stands in to tell whether a cached one is still good;
    a changed bound in a neighbouring module would go unseen. So the stamp is of that file and of all
    modules here.
    """
    try:
        dispatcher: Any = _njit(cache=True, **_OPTIONS)(function)
        own = hashlib.sha256(Path(function.__code__.co_filename).read_bytes()).hexdigest()
        dispatcher._cache._cache_file._source_stamp = source_stamp() + own
    except (RuntimeError, AttributeError):
        # No folder that numba may write, or a numba whose cache cannot be stamped: compile in every process.
        dispatcher = _njit(**_OPTIONS)(function)
    return cast(F, dispatcher)


@intrinsic
def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        kind = ir.FunctionType(double, [double, double, double])
        function = builder.module.declare_intrinsic("llvm.fma", [double], kind)
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def _float_to_bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def _bits_to_float(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def _float32_to_bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _bits_to_float32(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


# Only for use inside compiled functions.
fma: Any = _fma
float_to_bits: Any = _float_to_bits
bits_to_float: Any = _bits_to_float
float32_to_bits: Any = _float32_to_bits
bits_to_float32: Any = _bits_to_float32
