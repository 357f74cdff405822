"""Compiles CUDA C++ at run time for the device at hand and launches it on torch's stream.

The home of cuda-bindings, which comes with torch's CUDA builds.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from precision_lab.exceptions import MissingPackageError, UsageError, first_line
from precision_lab.system.extras import install_line

Argument: TypeAlias = "Tensor | int | ctypes._SimpleCData[Any] | Struct | None"


@dataclass(frozen=True)
class Struct:
    """One parameter that holds several values, each at its byte; what is between them is 0."""

    size: int
    values: tuple[tuple[int, Argument], ...] = ()


# IEEE arithmetic as the source writes it: no multiply-add is contracted, nothing flushed.
EXACT = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
FAST = ("--use_fast_math",)


# Where there is a driver, NVRTC caches what it made from this version on. On an H200 (NVRTC 13.0) machine
# code with `--use_fast_math` was that of the same source without it, to the byte.
_CACHES = (12, 9)


def _bindings() -> Any:
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError as error:
        raise MissingPackageError(
            f"compiling CUDA C++ at run time needs cuda-bindings; {install_line('cuda')}"
        ) from error
    return driver, nvrtc


def compiler_version() -> str:
    """Of NVIDIA's run-time compiler, such as "13.0"; "" where it is not installed."""
    try:
        _, nvrtc = _bindings()
        return ".".join(map(str, _checked(nvrtc.nvrtcVersion())))
    except (MissingPackageError, RuntimeError):
        return ""


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
        ImportError: cuda-bindings or the compiler's own library is missing, or CUDA's headers are.
        ValueError: the source does not compile, with the compiler's words.
    """
    return _compiled(source, name, architecture, options, "CUBIN", ())[0]


def compile_ptx(source: str, name: str, architecture: str, options: Sequence[str] = EXACT) -> str:
    """The PTX of `source` for an architecture such as "sm_90", with lines of the source; needs no GPU.

    Raises:
        ImportError, ValueError: as `compile_cubin`.
    """
    return instantiated_ptx(source, name, architecture, options)[0]


def instantiated_ptx(
    source: str, name: str, architecture: str, options: Sequence[str] = EXACT, expressions: Sequence[str] = ()
) -> tuple[str, dict[str, str]]:
    """The PTX and, of each expression that names a kernel, such as "scale<float>", its name there."""
    lines = (*options, "--generate-line-info")
    found, names = _compiled(source, name, architecture, lines, "PTX", tuple(expressions))
    ptx = found.rstrip(b"\0").decode()
    _ORIGINS[ptx] = (source, name, architecture, tuple(options), tuple(expressions))
    _ORIGINS.move_to_end(ptx)
    if len(_ORIGINS) > KEPT:
        _ORIGINS.popitem(last=False)
    return ptx, names


def machine_code_of(ptx: str) -> bytes | None:
    """The machine code that a device would run where PTX was compiled here lately; None for any other PTX."""
    origin = _ORIGINS.get(ptx)
    if origin is None:
        return None
    source, name, architecture, options, expressions = origin
    return _compiled(source, name, architecture, options, "CUBIN", expressions)[0]


KEPT = 64  # sources whose PTX can be traced back
# Of PTX that was compiled here, what from.
_ORIGINS: OrderedDict[str, tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = OrderedDict()


def _compiled(
    source: str, name: str, architecture: str, options: Sequence[str], kind: str, expressions: Sequence[str]
) -> tuple[bytes, dict[str, str]]:
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
        for expression in expressions:
            _checked(nvrtc.nvrtcAddNameExpression(program, expression.encode()))
        chosen = [o.encode() for o in (f"--gpu-architecture={architecture}", "--std=c++17", *options)]
        if tuple(_checked(nvrtc.nvrtcVersion())) >= _CACHES:
            chosen.append(b"--no-cache")
        folder = _headers()
        if folder:
            chosen.append(f"--include-path={folder}".encode())
        status = nvrtc.nvrtcCompileProgram(program, len(chosen), chosen)[0]
        if int(status) != 0:
            text = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            nvrtc.nvrtcGetProgramLog(program, text)
            log = text.rstrip(b"\0").decode().strip()
            missing = re.search(r'could not open source file "(cuda_\w+\.h)"', log)
            if missing and not folder:
                raise MissingPackageError(
                    f"{name} includes {missing.group(1)}, one of CUDA's own headers, and there are none; "
                    "`pip install nvidia-cuda-runtime nvidia-cuda-crt` or `pip install triton`"
                )
            raise UsageError(f"{name} does not compile for {architecture}: {log}")
        result: bytes = b" " * _checked(getattr(nvrtc, f"nvrtcGet{kind}Size")(program))
        _checked(getattr(nvrtc, f"nvrtcGet{kind}")(program, result))
        names = {e: _checked(nvrtc.nvrtcGetLoweredName(program, e.encode())).decode() for e in expressions}
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return result, names


def _headers() -> str | None:
    """Where cuda_fp16.h and its like are: in a CUDA toolkit, or beside NVIDIA's or Triton's packages."""
    return next((str(c) for c in _header_folders() if (c / "cuda_fp16.h").is_file()), None)


@lru_cache(maxsize=1)
def _header_folders() -> tuple[Path, ...]:
    candidates = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"]
    for package, inside in (
        ("nvidia", "cu13/include"), ("nvidia", "cuda_runtime/include"), ("triton", "backends/nvidia/include"),
    ):  # fmt: skip
        found = find_spec(package)
        candidates += (
            [Path(place) / inside for place in (found.submodule_search_locations or ())] if found else []
        )
    return tuple(candidates)


class Program(Protocol):
    """Kernels that can be launched on one device."""

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[Argument], *, shared_bytes: int = 0
    ) -> None:
        """Starts a kernel: tensors are passed as pointers, None as a null one, int as 64 bits.

        Raises:
            RuntimeError: the launch failed, or an earlier one that nobody had asked about yet.
            KernelError: the emulated device found a fault.
        """


def architecture(device: torch.device) -> str:
    """What the compiler calls a device, such as "sm_90"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


class CudaProgram:
    """The kernels of one source on one device."""

    def __init__(
        self,
        source: str,
        name: str,
        device: torch.device,
        options: Sequence[str] = EXACT,
        expressions: Sequence[str] = (),
    ) -> None:
        cubin = _compiled(source, name, architecture(device), options, "CUBIN", expressions)[0]
        self._load(cubin, device)

    @classmethod
    def of_image(cls, image: bytes, device: torch.device) -> Self:
        """The kernels of machine code, or of PTX that ends in a zero byte."""
        made = cls.__new__(cls)
        made._load(image, device)
        return made

    def _load(self, image: bytes, device: torch.device) -> None:
        driver, _ = _bindings()
        self._driver, self.device = driver, device
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # torch's context exists from here on
            # The same one; autograd's threads may not have it current yet.
            self._context = _checked(driver.cuDevicePrimaryCtxRetain(torch.cuda.current_device()))
            _checked(driver.cuCtxSetCurrent(self._context))
            self._module = _checked(driver.cuModuleLoadData(image))
        self._functions: dict[str, Any] = {}

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[Argument], *, shared_bytes: int = 0
    ) -> None:
        """As `Program.launch`."""
        if name not in self._functions:
            self._functions[name] = _checked(self._driver.cuModuleGetFunction(self._module, name.encode()))
        values = tuple(_value(a) for a in arguments)
        types = tuple(_type(a) for a in arguments)
        with torch.cuda.device(self.device):
            _checked(self._driver.cuCtxSetCurrent(self._context))
            stream = torch.cuda.current_stream().cuda_stream
            _checked(
                self._driver.cuLaunchKernel(
                    self._functions[name],
                    blocks,
                    1,
                    1,
                    threads,
                    1,
                    1,
                    shared_bytes,
                    stream,
                    (values, types),
                    0,
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
