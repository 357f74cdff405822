"""Approximate instructions, compiled: the correctly rounded result, or one so many floats from it.

A result is chosen by a number k: 0 is the correctly rounded one, others are k floats from it in the order of
the reals, but never beyond the last that the manual's bound allows for that input (`bounds`). So every choice
conforms, and every conforming float is some choice, but for the zero of the other sign. Where the manual
promises nothing, every k is taken as it is. With .ftz a result is chosen first and flushed then.

Each function is compiled once, for C: the fast engine calls it by its address, and `evaluate` calls that same
address for whole arrays.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from precision_lab.emulator import exact, trigonometry
from precision_lab.emulator.bounds import BOUNDS
from precision_lab.emulator.choosing import SIDE, Function, binary, unary, upper_half
from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import BF16, FP16, FP32
from precision_lab.numeric.jit import compiled, entry

Bits = NDArray[Any]

OPERATIONS = tuple(BOUNDS)
_FORMATS = {"f32": FP32, "f16": FP16, "bf16": BF16}
_DTYPES = MappingProxyType({"f32": np.uint32, "f16": np.uint16, "bf16": np.uint16, "f64": np.uint64})
# With .ftz or without: tanh and ex2 of f16 never flush; ex2 of bf16 and what there is of f64 always do.
_FLUSHES = MappingProxyType(
    dict.fromkeys(BOUNDS, (False, True))
    | {op: (False,) for op in BOUNDS if op.startswith("tanh") or op == "ex2.approx.f16"}
    | dict.fromkeys(("ex2.approx.bf16", "rcp.approx.f64", "rsqrt.approx.f64"), (True,))
)
# What the functions below are made from, besides the rooms that `jit` knows of.
_SOURCES = ("bounds", "choosing", "exact", "nominal", "trigonometry")


@compiled
def _tanh32(x: float) -> tuple[float, float, bool]:
    """As the manual has it for float32: "subnormal inputs get passed through to the output"."""
    if abs(x) < 2.0**-126:
        return x, 0.0, True
    return exact.tanh(x)


@compiled
def _div_approx(a: float, b: float) -> tuple[float, float, bool]:
    """As the manual has it for 2^126 < |b| < 2^128: NaN for an infinite a, else a zero."""
    if 2.0**126 < abs(b) < exact.INFINITY:
        return (a * 0.0) * np.copysign(1.0, b), 0.0, True
    return exact.div(a, b)


_VALUES: dict[str, Function] = {
    "ex2": exact.ex2, "lg2": exact.lg2, "rcp": exact.rcp, "rsqrt": exact.rsqrt, "sqrt": exact.sqrt,
    "tanh": exact.tanh, "sin": trigonometry.sin, "cos": trigonometry.cos,
    "tanh.approx.f32": _tanh32, "div.approx.f32": _div_approx, "div.full.f32": exact.div,
}  # fmt: skip


def supports(op: str, ftz: bool) -> bool:
    """Whether there is such an instruction here: "ex2.approx.f32", say, with or without .ftz."""
    return ftz in _FLUSHES.get(op, ())


def evaluate(op: str, ftz: bool, candidate: int, *bits: Bits) -> Bits:
    """What the instruction returns for bits of its type, if its result is the one numbered `candidate`.

    NaN is 0x7fffffff, or of the same form in other types.

    Args:
        op: one of OPERATIONS.
        candidate: floats from the correctly rounded result, in the order of the reals; what would leave the
            manual's bound is moved less.
        bits: of one operand, of div two; unsigned integers of the type's width, of any one shape.

    Raises:
        ValueError: there is no such instruction, or the operands do not fit it.
    """
    return _applied(op, _compiled(op, ftz).choose, candidate, bits)


def described(op: str, ftz: bool, what: int, *bits: Bits) -> Bits:
    """Of each input what `choosing` names LOW, HIGH, SIDE and PROMISED."""
    return _applied(op, _compiled(op, ftz).describe, what, bits)


def side(op: str, ftz: bool, *bits: Bits) -> NDArray[np.int8]:
    """Where the exact value lies: −1 below the nominal result, 1 above; 0 where they are equal or settled."""
    return described(op, ftz, SIDE, *bits).astype(np.int8) - np.int8(1)


def address(op: str, ftz: bool = False) -> int:
    """Of the C function behind `evaluate`, which lives as long as the process.

    Its signature is uint32(uint32 bits, int32 candidate), of div uint32(uint32, uint32, int32), of f64
    uint64(uint64, int32); types of 16 bits are in the lower half.

    Raises:
        ValueError: as `evaluate`.
    """
    return _compiled(op, ftz).choose


class _Code(NamedTuple):
    """Addresses of the function that chooses and of the one that describes, and whose code they are of."""

    choose: int
    describe: int
    owners: tuple[Any, ...]


@cache
def _compiled(op: str, ftz: bool) -> _Code:
    if op not in BOUNDS:
        raise unknown_name("approximate instruction", op, BOUNDS)
    if not supports(op, ftz):
        raise UsageError(f"{op} exists {'without' if ftz else 'with'} .ftz only; ftz={ftz}")
    opcode, _, kind = op.split(".")
    given: list[Any]
    value = _VALUES.get(op, _VALUES.get(opcode))
    assert value is not None
    tag = f"{op.replace('.', '_')}{'_ftz' if ftz else ''}"
    if kind == "f64":
        pair, given = upper_half(value, tag), [types.uint64]
    elif opcode == "div":
        pair, given = binary(value, FP32, BOUNDS[op], ftz, tag), [types.uint32, types.uint32]
    else:
        pair, given = unary(value, _FORMATS[kind], BOUNDS[op], ftz, tag), [types.uint32]
    owners = tuple(_dispatcher(f, (*given, types.int32)) for f in pair)
    choose, describe = map(_address, owners)
    return _Code(choose, describe, owners)


def _dispatcher(function: Function, signature: tuple[Any, ...]) -> Any:
    dispatcher: Any = entry(function)
    # The code of all instructions comes from the same lines, with other constants.
    dispatcher._cache._stamp += f" {function.__name__} {_stamp()}"
    dispatcher.compile(signature)
    return dispatcher


def _address(dispatcher: Any) -> int:
    (found,) = dispatcher.overloads.values()
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name))


@lru_cache(maxsize=1)
def _stamp() -> str:
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for module in _SOURCES:
        digest.update((folder / f"{module}.py").read_bytes())
    return digest.hexdigest()


def _applied(op: str, function: int, number: int, bits: tuple[Bits, ...]) -> Bits:
    opcode, _, kind = op.split(".")
    dtype, operands = _DTYPES[kind], 2 if opcode == "div" else 1
    shapes = {b.shape for b in bits}
    if len(bits) != operands or len(shapes) != 1 or any(b.dtype != dtype for b in bits):
        given = ", ".join(f"{b.dtype}{list(b.shape)}" for b in bits)
        raise UsageError(f"{op} takes {operands} array(s) of {np.dtype(dtype)}, of one shape; got {given}")
    if not -(2**31) <= number < 2**31:
        raise UsageError(f"a choice is a 32-bit number; candidate={number}")
    wide = np.uint64 if kind == "f64" else np.uint32
    flat = [np.ascontiguousarray(b).ravel().astype(wide, copy=False) for b in bits]
    out = np.empty(flat[0].size, wide)
    loop: Any = _over_two if operands == 2 else _over_wide if kind == "f64" else _over_one
    loop(np.int64(function), *flat, np.int32(number), out)
    return out.astype(dtype, copy=False).reshape(bits[0].shape)


def _call_of(*operands: Any) -> Any:
    """A numba intrinsic that calls the C function at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = [ir.IntType(a.bitwidth) for a in signature.args[1:]]
        kind = ir.FunctionType(kinds[0], kinds).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])

    return operands[0](types.int64, *operands, types.int32), generate


@intrinsic
def _one(typing_context: Any, function: Any, a: Any, k: Any) -> Any:
    return _call_of(types.uint32)


@intrinsic
def _two(typing_context: Any, function: Any, a: Any, b: Any, k: Any) -> Any:
    return _call_of(types.uint32, types.uint32)


@intrinsic
def _wide(typing_context: Any, function: Any, a: Any, k: Any) -> Any:
    return _call_of(types.uint64)


# Typed as numba does it: without the context.
call_one: Any = _one
call_two: Any = _two
call_wide: Any = _wide


@entry
def _over_one(function: Any, a: Any, k: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] = call_one(function, a[i], k)


@entry
def _over_two(function: Any, a: Any, b: Any, k: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] = call_two(function, a[i], b[i], k)


@entry
def _over_wide(function: Any, a: Any, k: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] = call_wide(function, a[i], k)
