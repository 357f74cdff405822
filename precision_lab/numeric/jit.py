"""How the oracle's loops are compiled: no fast-math, no contraction, the GIL released, cached on disk."""

from __future__ import annotations

import hashlib
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.extending import intrinsic

from precision_lab.numeric.sources import source_stamp
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked
from precision_lab.system.ieee import require

F = TypeVar("F", bound=Callable[..., Any])

# Without fast-math LLVM neither contracts a·b + c nor reorders sums: every operation below rounds once,
# as it is written, on every machine. Division by zero gives IEEE's answer instead of raising, which
# is also what lets loops become vector code.
_njit: Any = numba.njit
_pickled: Any = dumps
_rebuilt: Any = CompileResult._rebuild
_OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy", "boundscheck": False}


def compiled(function: F) -> F:
    """`function` compiled by numba, for use inside other compiled functions: not cached by itself.

    It makes no arrays. Then numba need count no references to those it is given: done atomically for each
    field of a record, that would take a twentieth of the time of scoring a tile.
    """
    return cast(F, _njit(**_OPTIONS, _nrt=False)(function))


class _CodeCache(NullCache):
    """Machine code of one function in the lab's own folder, a file with a checksum per signature.

    Numba's own files have none: a damaged one raises anything on loading, or runs. Its stamp is of the
    file that a function stands in; a changed bound in a neighbouring module would go unseen. So the key
    here is of that file, of all modules of those rooms, and of what compiles them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        own = hashlib.sha256(Path(code.co_filename).read_bytes()).hexdigest()
        self._name = function.__name__
        self._stamp = (
            f"{own} {source_stamp()} {code.co_firstlineno} {platform.python_version()} "
            f"{numba.__version__} {llvmlite.__version__}"
        )

    def _place(self, signature: Any, codegen: Any) -> tuple[Path, str] | None:
        folder = cache_directory()
        if folder is None:
            return None
        # The magic tuple is the processor: its name and its features.
        key = f"{self._stamp} {signature} {codegen.magic_tuple()}"
        name = f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.code"
        return folder / "code" / name, key

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        require("The oracle was not compiled")  # with constants that are folded in this thread
        target_context.refresh()
        place = self._place(sig, target_context.codegen())
        content = None if place is None else read_checked(*place)
        if content is None:
            return None
        return _rebuilt(target_context, *pickle.loads(content))

    def save_overload(self, sig: Any, cres: Any) -> None:
        place = self._place(sig, cres.library.codegen)
        # Code that holds addresses of this process is of no use to the next.
        if place is not None and not cres.library.has_dynamic_globals:
            write_checked(*place, _pickled(cres._reduce()))


def entry(function: F) -> F:
    """A compiled function that Python calls, kept on disk where there is a folder to write to."""
    dispatcher: Any = _njit(**_OPTIONS)(function)
    dispatcher._cache = _CodeCache(function)
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


# As arguments of compiled functions: given a plain int or bool, numba compiles them anew for every value.
ZERO: Any = np.int64(0)
TRUE: Any = np.bool_(True)

# Only for use inside compiled functions.
fma: Any = _fma
float_to_bits: Any = _float_to_bits
bits_to_float: Any = _bits_to_float
float32_to_bits: Any = _float32_to_bits
bits_to_float32: Any = _bits_to_float32
