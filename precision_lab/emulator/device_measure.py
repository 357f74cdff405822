"""Fills a device table on the CUDA device at hand: the instruction, executed for every input there is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator import nominal
from precision_lab.emulator.device_table import DeviceTable, Header, write
from precision_lab.exceptions import DamagedFileError, UsageError

STEP = 1 << 26  # inputs of a launch: a quarter of a gigabyte of results
_THREADS = 256
# The letter of a register's kind in inline assembly, and its type in C++.
_REGISTERS = {"f32": ("r", "unsigned int"), "f16": ("h", "unsigned short"), "bf16": ("h", "unsigned short")}


class Launcher(Protocol):
    """A device that runs the instruction.

    Attributes:
        device, capability, driver: for the header.
    """

    device: str
    capability: str
    driver: str

    def run(self, source: str, start: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Results for the inputs with codes from `start` on, by the kernel of `source` named "measure"."""


def source(op: str, ftz: bool) -> str:
    """CUDA C++ that stores what the instruction returns for `count` codes from `start` on.

    Raises:
        ValueError: there is no table for such an instruction.
    """
    Header("", "", "", op, ftz, 0, 1)
    opcode, how, kind = op.split(".")
    letter, type_ = _REGISTERS[kind]
    instruction = f"{opcode}.{how}{'.ftz' if ftz else ''}.{kind}"
    # Registers of plain bits hold a float for PTX just as well; `volatile` keeps the compiler from computing
    # any of it itself.
    return f"""
extern "C" __global__ void measure({type_} *out, long long start, long long count) {{
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= count) return;
    {type_} x = ({type_})(start + i), y;
    asm volatile("{instruction} %0, %1;" : "={letter}"(y) : "{letter}"(x));
    out[i] = y;
}}
"""


class CudaLauncher:
    """torch's current CUDA device.

    Raises:
        ValueError: torch sees none.
    """

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise UsageError("a device table is measured on a CUDA device; torch sees none here")
        self._torch, self._at = torch, torch.device("cuda", torch.cuda.current_device())
        self.device = torch.cuda.get_device_name(self._at)
        self.capability = ".".join(map(str, torch.cuda.get_device_capability(self._at)))
        self.driver = _driver()
        self._programs: dict[str, Any] = {}

    def run(self, source: str, start: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        from precision_lab.numeric.nvrtc import CudaProgram

        if source not in self._programs:
            # No option of the compiler's reaches into inline assembly.
            self._programs[source] = CudaProgram(source, "measure.cu", self._at)
        signed = self._torch.int32 if dtype.itemsize == 4 else self._torch.int16
        out = self._torch.empty(count, dtype=signed, device=self._at)
        self._programs[source].launch("measure", -(-count // _THREADS), _THREADS, [out, start, count])
        found: NDArray[Any] = out.cpu().numpy().view(dtype)
        return found


def _driver() -> str:
    """The newest CUDA that the installed driver knows: "13.0"."""
    from cuda.bindings import driver

    status, version = driver.cuDriverGetVersion()
    return f"{version // 1000}.{version % 1000 // 10}" if int(status) == 0 else "unknown"


def measure_on_cuda(
    op: str,
    ftz: bool,
    path: Path,
    launcher: Launcher | None = None,
    start: int = 0,
    stop: int | None = None,
    step: int = STEP,
) -> Header:
    """Measures an instruction for all inputs, or those from `start` to `stop`, and writes the table.

    Returns:
        What the table says of itself.

    Raises:
        ValueError: no CUDA device, or no table for such an instruction.
        RuntimeError: a launch failed.
        OSError: the table cannot be written.
    """
    text = source(op, ftz)
    launcher = CudaLauncher() if launcher is None else launcher
    last = stop if stop is not None else 1 << (32 if op.endswith(".f32") else 16)
    header = Header(launcher.device, launcher.capability, launcher.driver, op, ftz, start, last)

    def results() -> Iterator[NDArray[Any]]:
        for at in range(start, last, step):
            count = min(step, last - at)
            found = launcher.run(text, at, count, header.dtype)
            if found.shape != (count,):
                raise RuntimeError(f"the device returned {found.shape} results for {count} inputs")
            yield found

    write(path, header, results())
    return header


def tabled() -> tuple[tuple[str, bool], ...]:
    """Every approximate instruction that a table can be of, and whether it flushes; short tables first."""
    found = []
    for op in nominal.OPERATIONS:
        for ftz in (False, True):
            with contextlib.suppress(UsageError):
                Header("", "", "", op, ftz, 0, 1)
                found.append((op, ftz))
    return tuple(sorted(found, key=lambda entry: (entry[0].endswith(".f32"), *entry)))


def file_of(op: str, ftz: bool) -> str:
    """What a folder of tables calls that of an instruction."""
    opcode, how, kind = op.split(".")
    return f"{opcode}.{how}{'.ftz' if ftz else ''}.{kind}.table"


def measure_all_on_cuda(
    folder: Path, instructions: Sequence[tuple[str, bool]] | None = None, launcher: Launcher | None = None
) -> Iterator[tuple[Header, bool]]:
    """A table of each instruction in a folder; those that lie there whole, of the same device, stay.

    Yields:
        What each table says of itself, and whether it was measured now.

    Raises:
        ValueError, RuntimeError, OSError: as `measure_on_cuda`.
    """
    launcher = CudaLauncher() if launcher is None else launcher
    folder.mkdir(parents=True, exist_ok=True)
    for op, ftz in tabled() if instructions is None else instructions:
        path = folder / file_of(op, ftz)
        with contextlib.suppress(DamagedFileError, OSError):
            header = DeviceTable.load(path).header
            if (header.device, header.op, header.ftz) == (launcher.device, op, ftz):
                yield header, False
                continue
        yield measure_on_cuda(op, ftz, path, launcher), True
