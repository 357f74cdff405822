"""Compiles CUDA C++ at run time for the device at hand and launches it on torch's stream.

The home of cuda-bindings, which comes with torch's CUDA builds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from precision_lab.exceptions import MissingPackageError, UsageError, first_line

Argument: TypeAlias = "Tensor | int | ctypes._SimpleCData[Any] | None"

# IEEE arithmetic as the source writes it: no multiply-add is contracted, nothing flushed.
EXACT = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
FAST = ("--use_fast_math",)


def _bindings() -> Any:
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError as error:
        raise MissingPackageError(
            "compiling CUDA C++ at run time needs cuda-bindings; `pip install precision-lab[cuda]`"
        ) from error
    return driver, nvrtc


def _checked(result: Any) -> Any:
    """What a call returned beside its status.

    Raises:
        RuntimeError: the status is not success; an illegal access is named as CUDA names it.
    """
    status, *values = result
    if int(status) != 0:
        raise RuntimeError(f"CUDA error: {status.name} ({int(status)})")
    return values[0] if len(values) == 1 else values or None


def compile_cubin(source: str, name: str, architecture: str, options: Sequence[str] = EXACT) -> bytes:
    """Machine code of `source` for an architecture such as "sm_90"; needs no GPU.

    Raises:
        ImportError: cuda-bindings or the compiler's own library is missing.
        ValueError: the source does not compile, with the compiler's words.
    """
    _, nvrtc = _bindings()
    try:
        created = nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], [])
    except RuntimeError as error:  # its library is looked for at the first call
        reason = first_line(error) or type(error).__name__
        raise MissingPackageError(
            "compiling CUDA C++ at run time needs NVIDIA's libnvrtc, which torch's CUDA builds bring along "
            f"and `pip install nvidia-cuda-nvrtc` installs; it was not found ({reason})"
        ) from error
    program = _checked(created)
    try:
        chosen = [o.encode() for o in (f"--gpu-architecture={architecture}", "--std=c++17", *options)]
        folder = _headers()
        if folder:
            chosen.append(f"--include-path={folder}".encode())
        status = nvrtc.nvrtcCompileProgram(program, len(chosen), chosen)[0]
        if int(status) != 0:
            log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise UsageError(f"{name} does not compile for {architecture}: {log.decode().strip()}")
        cubin: bytes = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return cubin


@lru_cache(maxsize=1)
def _headers() -> str | None:
    """Where cuda_fp16.h and its like are: in a CUDA toolkit, or beside Triton's or NVIDIA's packages."""
    import os
    from importlib.util import find_spec
    from pathlib import Path

    candidates = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"]
    for package, inside in (
        ("nvidia", "cu13/include"),
        ("nvidia", "cuda_runtime/include"),
        ("triton", "backends/nvidia/include"),
    ):
        found = find_spec(package)
        candidates += (
            [Path(place) / inside for place in (found.submodule_search_locations or ())] if found else []
        )
    return next((str(c) for c in candidates if (c / "cuda_fp16.h").is_file()), None)


class CudaProgram:
    """The kernels of one source on one device."""

    def __init__(self, source: str, name: str, device: torch.device, options: Sequence[str] = EXACT) -> None:
        driver, _ = _bindings()
        self._driver, self.device = driver, device
        major, minor = torch.cuda.get_device_capability(device)
        cubin = compile_cubin(source, name, f"sm_{major}{minor}", options)
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # torch's context exists from here on
            # The same one; autograd's threads may not have it current yet.
            self._context = _checked(driver.cuDevicePrimaryCtxRetain(torch.cuda.current_device()))
            _checked(driver.cuCtxSetCurrent(self._context))
            self._module = _checked(driver.cuModuleLoadData(cubin))
        self._functions: dict[str, Any] = {}

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[Argument]) -> None:
        """Starts a kernel: tensors are passed as pointers, None as a null one, int as 64 bits.

        Raises:
            RuntimeError: the launch failed, or an earlier one that nobody had asked about yet.
        """
        if name not in self._functions:
            self._functions[name] = _checked(self._driver.cuModuleGetFunction(self._module, name.encode()))
        values = tuple(_value(a) for a in arguments)
        types = tuple(_type(a) for a in arguments)
        with torch.cuda.device(self.device):
            _checked(self._driver.cuCtxSetCurrent(self._context))
            stream = torch.cuda.current_stream().cuda_stream
            _checked(
                self._driver.cuLaunchKernel(
                    self._functions[name], blocks, 1, 1, threads, 1, 1, 0, stream, (values, types), 0
                )
            )


def _value(argument: Argument) -> Any:
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    return 0 if argument is None else getattr(argument, "value", argument)


def _type(argument: Argument) -> Any:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p
    return ctypes.c_int64 if isinstance(argument, int) else type(argument)
