"""C functions in a shared library, called through ctypes.

    void SYMBOL(const T *x, T *y, size_t n, float p1, float p2, ...)
    void SYMBOL_grad_NAME(const T *x, const T *upstream, T *gradient, size_t n, float p1, ...)

T is float for fp32, and uint16_t, the bits, for bf16 and fp16; parameters are those of the function,
in its order. SYMBOL serves fp32, SYMBOL_bf16 and SYMBOL_fp16 the others; a SYMBOL that ends in a
format's name serves that one. Gradients with respect to parameters are per element.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import BF16, FP16, FP32, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.bridge import Arrays, Bridge
from precision_lab.implementations.adapters.foreign_kernel import Foreign
from precision_lab.implementations.adapters.offers import in_library, misspelt
from precision_lab.system.near_files import no_such_file

_FORMATS = (FP32, BF16, FP16)
_DTYPES = {fmt.torch_name: fmt for fmt in _FORMATS}
# NaN, with digits that a kernel does not make: what it leaves unwritten stays NaN.
MARGIN = 64  # elements watched on either side of a result
_POISON = {FP32: 0x7FE5A5A5, BF16: 0x7FE5, FP16: 0x7FA5}


def wrap_c(path: Path, symbol: str, function: Activation) -> Foreign:
    """The functions of a library that begin with `symbol`, as one kernel.

    Raises:
        ValueError: the library cannot be loaded, or has no such symbol.
    """
    if not path.is_file():
        raise UsageError(f"TARGET library {str(path)!r} {no_such_file(path)}")
    try:
        library = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise UsageError(f"TARGET library {str(path)!r} cannot be loaded: {error}") from error
    own = next((fmt for fmt in _FORMATS if symbol.endswith(f"_{fmt.name}")), None)
    stem = symbol.removesuffix(f"_{own.name}") if own else symbol
    formats = (own,) if own else _FORMATS
    parameters = [p.name for p in function.parameters]

    def find(output: str, fmt: FloatFormat) -> Any:
        """The C function of an output in a format, or None."""
        name = stem if output == "forward" else f"{stem}_{output}"
        candidates = [f"{name}_{fmt.name}"] + ([name] if fmt is FP32 else [])
        found = next((f for c in candidates if (f := getattr(library, c, None)) is not None), None)
        if found is not None:
            buffers = 2 if output == "forward" else 3
            found.restype = None
            found.argtypes = (
                [ctypes.c_void_p] * buffers + [ctypes.c_size_t] + [ctypes.c_float] * len(parameters)
            )
        return found

    functions = {
        (output, fmt): found
        for output in function.outputs
        for fmt in formats
        if (found := find(output, fmt)) is not None
    }
    served = tuple(fmt for fmt in formats if ("forward", fmt) in functions)
    if not served:
        raise UsageError(
            f"TARGET library {str(path)!r} has no symbol {symbol!r}; "
            f"{misspelt(str(path), symbol, in_library(path))}"
        )

    def call(output: str, inputs: list[NDArray[Any]], params: Arrays) -> NDArray[Any]:
        x = inputs[0]
        fmt = _DTYPES[x.dtype.name]
        integer = fmt.bits_dtype
        buffers = [np.ascontiguousarray(a).reshape(-1) for a in inputs]
        # Where x begins off a boundary the result does too, as a slice of the same tensor would; what lies
        # before and behind it is watched.
        whole = np.full(x.size + 3 * MARGIN, _POISON[fmt], integer)
        off = (buffers[0].ctypes.data - whole.ctypes.data) // x.itemsize % MARGIN
        result = whole[MARGIN + off :][: x.size]
        values = [_scalar(name, params[name]) for name in parameters]
        functions[output, fmt](
            *(b.ctypes.data for b in buffers), result.ctypes.data, x.size, *values
        )  # fmt: skip
        outside = np.concatenate([whole[: MARGIN + off], whole[MARGIN + off + x.size :]])
        if changed := int((outside != _POISON[fmt]).sum()):
            raise KernelError(
                "writes_outside",
                f"{changed} elements before or behind the result of {x.size} were overwritten",
            )
        return result.view(x.dtype).reshape(x.shape)

    def forward(x: NDArray[Any], params: Arrays) -> Any:
        return call("forward", [x], params)

    def backward(
        x: NDArray[Any], upstream: NDArray[Any], params: Arrays, wanted: Collection[str]
    ) -> dict[str, Any]:
        fmt = _DTYPES[x.dtype.name]
        return {
            name: call(f"grad_{name}", [x, upstream], params)
            for name in wanted
            if (f"grad_{name}", fmt) in functions
        }

    outputs = tuple(o for o in function.outputs if all((o, fmt) in functions for fmt in served))
    names = tuple(parameters)
    return Foreign(Bridge(symbol, names, forward, backward), outputs, names, served)


def _scalar(name: str, values: NDArray[Any]) -> float:
    """A parameter as one number; where the lab asks for gradients per element it is that number repeated.

    Raises:
        ValueError: different values for different elements, which a C kernel cannot be given.
    """
    flat = values.reshape(-1)
    if flat.size == 0:
        return 0.0
    if not (flat == flat[0]).all():
        raise UsageError(f"{name} differs from element to element; a C kernel takes one number")
    return float(flat[0])
