"""CUDA C++, PTX and machine code on the device at hand: launched on a GPU, or executed on an emulated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch

from precision_lab.emulator.sass.text import kernel_of
from precision_lab.exceptions import UsageError
from precision_lab.numeric.nvrtc import (
    EXACT,
    Argument,
    CudaProgram,
    Program,
    architecture,
    instantiated_ptx,
)


def is_emulated() -> bool:
    """Whether torch's CUDA devices are emulated in this process."""
    from precision_lab import virtual_gpu

    return virtual_gpu.is_installed()


def program(
    source: str,
    name: str,
    device: torch.device,
    options: Sequence[str] = EXACT,
    *,
    expressions: Sequence[str] = (),
) -> Program:
    """The kernels of one source on a device, real or emulated.

    Args:
        expressions: instantiations of templates that are to be among them.

    Raises:
        ImportError, ValueError: as `compile_cubin`.
    """
    kind = EmulatedProgram if is_emulated() else CudaProgram
    return kind(source, name, device, options, expressions)


def ptx_program(text: str, device: torch.device) -> Program:
    """The kernels of a PTX text on a device, real or emulated."""
    if is_emulated():
        return EmulatedProgram.of_ptx(text, device)
    return CudaProgram.of_image(text.rstrip("\0").encode() + b"\0", device)


def machine_code_program(cubin: bytes, device: torch.device) -> Program:
    """The kernels of machine code on an emulated device.

    Raises:
        ValueError: the device is a real one.
    """
    if not is_emulated():
        raise UsageError(
            "machine code of a file is executed on emulated devices alone, such as --device sm_90"
        )
    return EmulatedMachineCode(cubin, architecture(device))


class EmulatedMachineCode:
    """The kernels of machine code on an emulated device, which executes it as it is."""

    def __init__(self, cubin: bytes, target: str) -> None:
        self._cubin, self._target = cubin, target

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[Argument], *, shared_bytes: int = 0
    ) -> None:
        """As `Program.launch`."""
        from precision_lab.virtual_gpu.launching import execute_machine_code

        kernel = kernel_of(self._cubin, name, self._target)
        execute_machine_code(kernel, (blocks, 1, 1), (threads, 1, 1), tuple(arguments), shared_bytes)


class EmulatedProgram:
    """The kernels of one source, or of a PTX text, on an emulated device: their PTX is executed.

    Attributes:
        ptx: what is executed.
    """

    def __init__(
        self,
        source: str,
        name: str,
        device: torch.device,
        options: Sequence[str] = EXACT,
        expressions: Sequence[str] = (),
    ) -> None:
        self.device = device
        self.ptx = instantiated_ptx(source, name, architecture(device), options, expressions)[0]

    @classmethod
    def of_ptx(cls, text: str, device: torch.device) -> Self:
        made = cls.__new__(cls)
        made.device, made.ptx = device, text
        return made

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[Argument], *, shared_bytes: int = 0
    ) -> None:
        """As `Program.launch`."""
        from precision_lab.virtual_gpu.launching import execute

        execute(self.ptx, name, (blocks, 1, 1), (threads, 1, 1), tuple(arguments), shared_bytes)
