"""What is known of the tensors of an emulated GPU: their memory, and what CPU code computed in it."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, UntypedStorage

from precision_lab.emulator.memory import WRITTEN, Memory
from precision_lab.exceptions import InternalError
from precision_lab.virtual_gpu import library


class DeviceMemory(Memory):
    """The memory in which torch's CUDA tensors lie; what engines allocate, too."""

    def allocate(self, count: int) -> int:
        address = int(_library().virtual_gpu_allocate(count))
        if not address:
            raise MemoryError(f"{count} bytes do not fit into the emulated GPU's memory of {self.size}")
        return address

    def extent(self, address: int) -> int:
        size = ctypes.c_uint64(0)
        found = _library().virtual_gpu_allocation(address, ctypes.byref(size))
        return size.value if found == address else super().extent(address)


class _State:
    """Of this process, which is one device's."""

    library: ctypes.CDLL | None = None
    memory: DeviceMemory | None = None


def begin() -> None:
    """Makes torch's CUDA device of host memory; for this process's whole life.

    Raises:
        MissingPackageError, InternalError: as `library.load`.
        ValueError: the system does not give the address space.
    """
    if is_installed():
        return
    loaded = library.load()
    memory = DeviceMemory.reserve()
    # Tensors may be freed after Python's last object: the memory is never given back.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    trouble = loaded.virtual_gpu_install(memory.base, memory.states_base, memory.size).decode()
    if trouble:
        raise InternalError(f"torch does not take the emulated GPU: {trouble}", "")
    _State.library, _State.memory = loaded, memory


def is_installed() -> bool:
    return _State.memory is not None


def _library() -> ctypes.CDLL:
    assert _State.library is not None, "no emulated GPU in this process"
    return _State.library


def memory() -> DeviceMemory:
    """Where every tensor of the device lies; an address there is what `data_ptr` says."""
    assert _State.memory is not None, "no emulated GPU in this process"
    return _State.memory


def operators_of(tensor: Tensor) -> tuple[str, ...]:
    """Operators of torch that computed something in the tensor's memory, or in what that was computed from,
    on the CPU; () for a tensor of another device.

    What only places, chooses or fills, or converts alike on every device, is not among them.
    """
    if tensor.device.type != "cuda" or not tensor.untyped_storage().nbytes():
        return ()
    marks = marks_of(tensor.untyped_storage().data_ptr())
    return tuple(mark for mark in marks if not mark.startswith("#"))


def marks_of(allocation: int) -> tuple[str, ...]:
    """Of an allocation, by its first byte: operators, and what begins with #, which launches have left."""
    return _lines(_library().virtual_gpu_names(allocation))


def mark(allocation: int, words: str) -> None:
    """Adds a mark to an allocation, which copies of it will have, too."""
    _library().virtual_gpu_mark(allocation, words.encode())


def unwritten_reads() -> list[str]:
    """What operators of torch have read that nobody had written, since it was last asked; a sentence each."""
    return list(_lines(_library().virtual_gpu_take_reports()))


def unwritten_elements(tensor: Tensor) -> NDArray[np.int64]:
    """Numbers of the elements of which nobody has written every byte; none of another device's tensor."""
    if tensor.device.type != "cuda" or not tensor.numel():
        return np.empty(0, np.int64)
    size = tensor.element_size()
    states = np.lib.stride_tricks.as_strided(
        memory().states[tensor.data_ptr() - memory().base :],
        (*tensor.shape, size), (*(stride * size for stride in tensor.stride()), 1),
    )  # fmt: skip
    written = states == WRITTEN
    # Nearly always, and a hundred times faster than to ask element by element.
    return np.empty(0, np.int64) if written.all() else np.flatnonzero(~written.all(-1))


def allocation_of(address: int) -> int | None:
    """The first byte of the allocation that an address lies in; None outside every one."""
    return int(_library().virtual_gpu_allocation(address, None)) or None


def resize_storage(storage: UntypedStorage, count: int) -> None:
    """Gives a storage of the device so many bytes.

    Raises:
        RuntimeError: it cannot be resized, or there is no room.
    """
    trouble = _library().virtual_gpu_resize(storage._cdata, count).decode()
    if trouble:
        raise RuntimeError(trouble.splitlines()[0])


def bytes_in_use() -> int:
    return int(_library().virtual_gpu_used())


def most_bytes_in_use() -> int:
    """At once, since `forget_most_bytes`."""
    return int(_library().virtual_gpu_peak())


def forget_most_bytes() -> None:
    _library().virtual_gpu_reset_peak()


def next_generator_is_default() -> None:
    """The next `torch.Generator("cuda")` is the device's default one."""
    _library().virtual_gpu_next_generator_is_default()


def _lines(text: bytes) -> tuple[str, ...]:
    return tuple(text.decode().splitlines())
