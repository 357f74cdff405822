"""CUDA C++ kernels, PTX and machine code in files, as TARGETs: launched on a GPU, or executed on an emulated
one, as which machine code always is.

    my_kernels.cu:silu       my_kernels.cu:silu<float>       compiled_elsewhere.ptx:silu
    libtorch_cuda.so:silu_kernel                             compiled_elsewhere.cubin:silu

What the kernels are handed is read off their parameters' names, or said beside them (`launch_description`).
A kernel serves the format that its name ends in or its pointers have; a template of one type serves all for
which it compiles. NAME_backward, or NAME_grad_x and so on, give gradients; those with respect to
parameters are per element. Parameters are one number each, by value or behind a pointer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from precision_lab.emulator.sass.fat_binary import holds_kernels
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.cuda_arguments import Argument
from precision_lab.implementations.adapters.cuda_source import Call, Source
from precision_lab.implementations.adapters.foreign_kernel import Foreign
from precision_lab.implementations.adapters.shipped_code import ShippedCode
from precision_lab.implementations.cuda_program import (
    is_emulated,
    machine_code_program,
    program,
    ptx_program,
)
from precision_lab.numeric.nvrtc import Program, Struct, architecture
from precision_lab.system.near_files import no_such_file

# NaN, by bytes of a number, with digits that a kernel does not make: what it leaves unwritten stays NaN.
_POISON = {2: 0x7FE5, 4: 0x7FE5A5A5, 8: 0x7FFA5A5A5A5A5A5A}
_INTEGERS: Mapping[str, tuple[int, Any, Any]] = {
    "int8": (8, ctypes.c_int8, ctypes.c_uint8), "int16": (16, ctypes.c_int16, ctypes.c_uint16),
    "int32": (32, ctypes.c_int32, ctypes.c_uint32),
}  # fmt: skip
_OPERANDS = ("x", "dy", "result")  # that are only read
MARGIN = 64  # elements watched on either side of a result; an emulated GPU watches every byte itself


def wrap_cuda(path: Path, symbol: str, function: Activation, launch: str = "") -> Foreign:
    """The kernels of a file that `symbol` names, as one.

    Args:
        launch: how they are launched, where the file does not say it.

    Raises:
        ValueError: the file or the kernel is not there, does not compile, or what its parameters stand for is
            not known.
        ImportError: CUDA C++ cannot be compiled here.
    """
    if not path.is_file():
        raise UsageError(f"TARGET file {str(path)!r} {no_such_file(path)}")
    target = architecture(torch.device("cuda")) if torch.cuda.is_available() else "sm_90"
    source: Source | ShippedCode
    if holds_kernels(path):
        source = ShippedCode(path, function, target, launch)
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"TARGET file {str(path)!r} is no text: {error}") from error
        source = Source(path, text, function, target, launch)
    forward = source.forward(symbol)
    backward = {fmt: source.backward(symbol, fmt, call) for fmt, call in forward.items()}
    calls = [c for fmt, call in forward.items() for c in (call, *backward[fmt])]
    names = tuple(p for p in source.parameters if any(p in c.meanings for c in calls))

    def gives(output: str) -> bool:
        meaning = "dx" if output == "grad_x" else output.replace("grad_", "d_", 1)
        return all(any(meaning in c.meanings for c in given) for given in backward.values())

    outputs = tuple(o for o in function.outputs if o == "forward" or gives(o))
    kernel = _Kernel(symbol, source, names, forward, backward)
    return Foreign(kernel, outputs, names, tuple(forward))


@dataclass(frozen=True, eq=False)
class _Kernel:
    label: str
    source: Source | ShippedCode
    names: tuple[str, ...]
    forward: Mapping[FloatFormat, Call]
    backward: Mapping[FloatFormat, tuple[Call, ...]]

    def __call__(self, x: Tensor, **params: Tensor) -> Tensor:
        _require_cuda(x, self.label)
        given = (params[name] for name in self.names)
        result: Tensor = _Function.apply(self, x, *given)  # type: ignore[no-untyped-call]
        return result

    def format_of(self, x: Tensor) -> FloatFormat:
        named = str(x.dtype).removeprefix("torch.")
        found = next((fmt for fmt in self.forward if fmt.torch_name == named), None)
        if found is None:
            has = ", ".join(fmt.name for fmt in self.forward)
            raise KernelError("raised", f"{self.label} has no kernel for {x.dtype}; it has {has}")
        return found

    def run(
        self, call: Call, x: Tensor, given: Mapping[str, Tensor | None], params: Mapping[str, Tensor]
    ) -> None:
        """Launches one kernel over the elements of x.

        Args:
            given: the buffers, by what the description calls them.
        """
        n = x.numel()
        if not n:
            return
        given = {
            meaning: t.clone()
            if t is not None and meaning in _OPERANDS and t.data_ptr() % call.aligned
            else t
            for meaning, t in given.items()
        }
        values = [_filled(a, n, x, given, params, call) for a in call.arguments]
        d = call.description
        try:
            made = _program(self.source, call, x.device)
        except ImportError as error:
            raise KernelError("missing_dependency", str(error)) from error
        made.launch(call.name, d.blocks(n), d.block, values, shared_bytes=d.number(d.shared, n))


def _require_cuda(x: Tensor, label: str) -> None:
    if x.device.type != "cuda":
        raise KernelError(
            "unsupported_device",
            f"{label} is a CUDA kernel and x is on {x.device.type}; it needs --device cuda, or an "
            "emulated one, such as --device sm_90",
        )


@lru_cache(maxsize=32)
def _program_of(
    text: str,
    path: str,
    is_ptx: bool,
    options: tuple[str, ...],
    expressions: tuple[str, ...],
    device: torch.device,
) -> Program:
    if is_ptx:
        return ptx_program(text, device)
    return program(text, path, device, options, expressions=expressions)


def _program(source: Source | ShippedCode, call: Call, device: torch.device) -> Program:
    if isinstance(source, ShippedCode):
        return machine_code_program(source.file.cubin(call.name), device)
    from precision_lab.implementations.adapters.launch_description import Description

    chosen = source.options(Description(options=call.description.options))
    return _program_of(source.text, str(source.path), source.is_ptx, chosen, call.expressions, device)


def _filled(
    a: Argument,
    n: int,
    x: Tensor,
    given: Mapping[str, Tensor | None],
    params: Mapping[str, Tensor],
    call: Call,
) -> Any:
    """What a parameter is filled with, as `Program.launch` takes it."""
    if a.kind == "struct":
        return Struct(a.size, tuple((v.offset, _filled(v, n, x, given, params, call)) for v in a.parts))
    if a.meaning in given:
        return given[a.meaning]
    if a.meaning in params:
        return _parameter(a, params[a.meaning], x)
    if a.real is not None:
        return ctypes.c_float(a.real) if a.kind == "float" else ctypes.c_double(a.real)
    number = call.description.number(a.meaning, n)
    if a.kind in _INTEGERS:
        bits, signed, unsigned = _INTEGERS[a.kind]
        if not -(1 << bits - 1) <= number < 1 << bits:
            raise UsageError(f"{call.name}: {a.meaning} = {number} does not fit into {bits} bits")
        return signed(number) if number < 1 << bits - 1 else unsigned(number)
    return number


def _parameter(a: Argument, value: Tensor, x: Tensor) -> Any:
    flat = value.detach().reshape(-1)
    one = flat[:1]
    if flat.numel() > 1 and not bool((flat == one).all()):
        raise UsageError(f"{a.meaning} differs from element to element; a kernel in a file takes one number")
    if a.kind == "pointer":
        return one.to(_dtype(a.fmt)).to(x.device).clone()
    if a.kind == "bits16":
        bits = int(one.to(x.dtype).view(torch.int16).cpu().item())
        return ctypes.c_uint16(bits & 0xFFFF)
    number = float(one.double().cpu().item())
    return ctypes.c_float(number) if a.kind == "float" else ctypes.c_double(number)


def _dtype(fmt: FloatFormat) -> torch.dtype:
    found: torch.dtype = getattr(torch, str(fmt.torch_name))
    return found


class _Result:
    """A buffer that a kernel writes, with what must not be overwritten around it."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        self._whole: Tensor | None = None
        if is_emulated():
            self.values = torch.empty(n, dtype=dtype, device=device)
            return
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        self._whole = torch.full((n + 2 * MARGIN,), _POISON[dtype.itemsize], dtype=integer, device=device)
        self.values = self._whole[MARGIN : MARGIN + n].view(dtype)

    def checked(self) -> Tensor:
        """The values.

        Raises:
            KernelError: something before or behind them was written.
        """
        if self._whole is not None:
            outside = torch.cat([self._whole[:MARGIN], self._whole[-MARGIN:]])
            if changed := int((outside != _POISON[self.values.itemsize]).sum()):
                raise KernelError(
                    "writes_outside",
                    f"{changed} elements before or behind the result of {len(self.values)} were overwritten",
                )
        return self.values


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: _Kernel, x: Tensor, *params: Tensor) -> Tensor:
        ctx.kernel = kernel
        call = kernel.forward[kernel.format_of(x)]
        y = _Result(x.numel(), x.dtype, x.device)
        flat = x.contiguous().reshape(-1)
        named = dict(zip(kernel.names, params, strict=True))
        kernel.run(call, x, {"x": flat, "y": y.values, "null": None}, named)
        result = y.checked().reshape(x.shape)
        ctx.save_for_backward(x, result, *params)
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        kernel: _Kernel = ctx.kernel
        x, result, *saved = ctx.saved_tensors
        params = dict(zip(kernel.names, saved, strict=True))
        found: dict[str, Tensor] = {}
        inputs: dict[str, Tensor | None] = {
            "x": x.contiguous().reshape(-1), "dy": upstream.contiguous().reshape(-1), "null": None,
            "result": result.contiguous().reshape(-1),
        }  # fmt: skip
        for call in kernel.backward[kernel.format_of(x)]:
            results = {
                a.meaning: _Result(x.numel(), _dtype(a.fmt), x.device)
                for argument in call.arguments for a in argument.values
                if a.meaning in ("y", "dx") or a.meaning.startswith("d_")
            }  # fmt: skip
            buffers = {meaning: result.values for meaning, result in results.items()}
            kernel.run(call, x, {**inputs, **buffers}, params)
            found |= {meaning: result.checked() for meaning, result in results.items()}
        d_x = found["dx"].to(x.dtype).reshape(x.shape) if "dx" in found else None
        return None, d_x, *(_summed(found.get(f"d_{name}"), x, params[name]) for name in kernel.names)


def _summed(gradient: Tensor | None, x: Tensor, source: Tensor) -> Tensor | None:
    """A gradient per element, in its parameter's shape; the difference is summed in FP64."""
    if gradient is None:
        return None
    if source.shape == x.shape:
        return gradient.to(source.dtype).reshape(source.shape)
    return gradient.double().reshape(x.shape).sum_to_size(source.shape).to(source.dtype)
