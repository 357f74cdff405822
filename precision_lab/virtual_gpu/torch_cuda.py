"""Makes `torch.cuda` say what a device of a compute capability says, of the one that `library` has made.

What torch asks in C++ the library answers; this is what it asks in Python. A build of torch without CUDA
lacks the functions behind `torch.cuda`; one with CUDA would look for a driver in them.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch

from precision_lab.emulator.faults import Unsupported
from precision_lab.virtual_gpu import streams, tensors
from precision_lab.virtual_gpu.properties import Properties

CUDA_VERSION = "12.8"  # of a build that has none of its own; code looks whether it is there, or recent
_POOLS = ("all", "small_pool", "large_pool")
_BYTES = ("allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes")
_COUNTS = ("inactive_split_bytes", "allocation", "segment", "active", "inactive_split")


def pretend(properties: Properties) -> None:
    """Everything there is to say; for this process's whole life."""
    if torch.version.cuda is None:
        torch.version.cuda = CUDA_VERSION
    capability = properties.major, properties.minor
    stream = streams.Stream()
    unsupported = {
        "CUDAGraph": "CUDA graphs are not captured",
        "graph": "CUDA graphs are not captured",
        "make_graphed_callables": "CUDA graphs are not captured",
        "MemPool": "memory pools are not there",
        "get_stream_from_external": "streams of other libraries are not there",
        "change_current_allocator": "its memory has an allocator of its own",
    }
    _replace(
        torch.cuda,
        **{name: _refused(f"torch.cuda.{name}", why) for name, why in unsupported.items()},
        _initialized=True,
        _is_compiled=lambda: True,
        _is_in_bad_fork=lambda: False,
        _lazy_init=lambda: None,
        # Dynamo wants functions that differ.
        _exchange_device=lambda index: _checked(index),
        _maybe_exchange_device=lambda index: _checked(index),
        _sleep=lambda cycles: None,
        init=lambda: None,
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        set_device=lambda device: _checked(_index(device)) and None,
        get_device_name=lambda device=None: _of(device, properties.name),
        get_device_capability=lambda device=None: _of(device, capability),
        get_device_properties=lambda device=None: _of(device, properties),
        can_device_access_peer=lambda device, peer: False,
        get_arch_list=lambda: [properties.name.split()[-1]],
        get_gencode_flags=lambda: "",
        is_bf16_supported=lambda including_emulation=True: including_emulation or capability >= (8, 0),
        is_tf32_supported=lambda: capability >= (8, 0),
        synchronize=lambda device=None: None,
        ipc_collect=lambda: None,
        current_stream=lambda device=None: _of(device, stream),
        default_stream=lambda device=None: _of(device, stream),
        set_stream=lambda stream: None,
        stream=streams.StreamContext,
        StreamContext=streams.StreamContext,
        Stream=streams.Stream,
        ExternalStream=streams.ExternalStream,
        Event=streams.Event,
        is_current_stream_capturing=lambda: False,
        cudart=lambda: _Runtime(),
        default_generators=(_default_generator(),),
    )
    _replace(
        torch.cuda.streams, Stream=streams.Stream, ExternalStream=streams.ExternalStream, Event=streams.Event
    )
    _replace(
        torch.cuda.graphs,
        CUDAGraph=torch.cuda.CUDAGraph,
        graph=torch.cuda.graph,
        is_current_stream_capturing=lambda: False,
    )
    # Names that Inductor imports of a build for CUDA.
    for name, value in (
        ("_cuda_CUDAAllocator_AllocatorState", type("AllocatorState", (), {})),
        ("_set_cached_tensors_enabled", lambda enabled: None),
    ):
        if not hasattr(torch._C, name):
            setattr(torch._C, name, value)
    # What Inductor's code allocates with.
    _replace(
        torch._C._dynamo.guards,
        _empty_strided_cuda=lambda size, stride, dtype: torch.empty_strided(
            size, stride, dtype=dtype, device="cuda"
        ),
    )
    _memory(properties)
    _replace(
        torch._C,
        _has_cuda=True,
        _cuda_init=lambda: None,
        _cuda_isInBadFork=lambda: False,
        _cuda_getDevice=lambda: 0,
        _cuda_setDevice=_checked,
        _cuda_exchangeDevice=_checked,
        _cuda_maybeExchangeDevice=_checked,
        _cuda_getDeviceCount=lambda: 1,
        _cuda_getCurrentRawStream=lambda device: 0,
        _cuda_isCurrentStreamCapturing=lambda: False,
        _cuda_synchronize=lambda *_: None,
        _cuda_getArchFlags=lambda: properties.name.split()[-1],
        _cuda_clearCublasWorkspaces=lambda: None,
        # The first that is asked when torch.compile captures graphs.
        _cuda_cudaCachingAllocator_is_enabled=_refused(
            "a mode of torch.compile with CUDA graphs", "they are not captured"
        ),
    )
    marks = ("range_push", "range_pop", "mark", "range_start", "range_end")
    _replace(torch.cuda.nvtx, range=_named_range, **dict.fromkeys(marks, lambda *_, **__: 0))
    for name, value in list(vars(torch.cuda.nccl).items()):
        if isinstance(value, types.FunctionType):
            setattr(torch.cuda.nccl, name, _refused(f"torch.cuda.nccl.{name}", "there is one device only"))
    # The CPU has code for attention as it is defined, not for its fused forms.
    for way in ("flash_sdp", "mem_efficient_sdp", "cudnn_sdp"):
        getattr(torch.backends.cuda, f"enable_{way}")(False)
    _storages()
    # Seeds that were set before there was a device.
    for call, _ in torch.cuda._lazy_seed_tracker.get_calls() or ():
        call()


def _replace(module: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(module, name, value)


def _index(device: Any) -> int:
    """Of a device as torch.cuda's functions take it; -1 for what stands for no device."""
    if device is None:
        return 0
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return 0 if index is None else index


def _checked(index: int) -> int:
    """The device that was in use before: the same."""
    if index not in (0, -1):
        raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{index}; there is one emulated GPU")
    return 0


def _of(device: Any, value: Any) -> Any:
    _checked(_index(device))
    return value


def _refused(name: str, why: str) -> Any:
    """A class or function whose use is refused in one sentence."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise Unsupported(f"{name} cannot be used on an emulated GPU: {why}")

    # A class, so that code which only names it in isinstance or inherits from it goes on.
    return type(name.rpartition(".")[2], (), {"__new__": refuse})


class _Runtime:
    """As `torch.cuda.cudart()`: profilers are told to start and stop."""

    cudaError = types.SimpleNamespace(success=0)

    def cudaProfilerStart(self) -> int:
        return 0

    def cudaProfilerStop(self) -> int:
        return 0

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(f"{name} of the CUDA runtime cannot be called on an emulated GPU")


@contextlib.contextmanager
def _named_range(*_: Any, **__: Any) -> Iterator[None]:
    yield


def _default_generator() -> torch.Generator:
    tensors.next_generator_is_default()
    return torch.Generator("cuda")


def _memory(properties: Properties) -> None:
    def statistics() -> dict[str, Any]:
        now, most = tensors.bytes_in_use(), tensors.most_bytes_in_use()
        used = {"current": now, "peak": most, "allocated": most, "freed": most - now}
        nothing = dict.fromkeys(used, 0)
        return {
            **{name: {pool: used if pool == "all" else nothing for pool in _POOLS} for name in _BYTES},
            **{name: dict.fromkeys(_POOLS, nothing) for name in _COUNTS},
            "oversize_allocations": nothing,
            "oversize_segments": nothing,
            **dict.fromkeys(("num_alloc_retries", "num_ooms", "num_device_alloc", "num_device_free",
                             "num_sync_all_streams", "max_split_size"), 0),
        }  # fmt: skip

    def free() -> tuple[int, int]:
        return properties.total_memory - tensors.bytes_in_use(), properties.total_memory

    in_c: dict[str, Callable[..., Any]] = {
        "_cuda_memoryStats": lambda device: statistics(),
        "_cuda_resetPeakMemoryStats": lambda device: tensors.forget_most_bytes(),
        "_cuda_resetAccumulatedMemoryStats": lambda device: None,
        "_cuda_emptyCache": lambda: None,
        "_cuda_getAllocatorBackend": lambda: "native",
        "_cuda_setMemoryFraction": lambda fraction, device: None,
        "_cuda_getMemoryFraction": lambda device: 1.0,
    }
    _replace(torch._C, **in_c)
    for module in (torch.cuda, torch.cuda.memory):
        _replace(
            module,
            mem_get_info=lambda device=None: _of(device, free()),
            memory_stats_as_nested_dict=lambda device=None: _of(device, statistics()),
        )


def _storages() -> None:
    """Storages of the device can be made and resized from Python; torch only does so as it was built."""
    plain, resize = torch.UntypedStorage.__new__, torch.UntypedStorage.resize_

    def make(cls: type, *args: Any, device: Any = None, **others: Any) -> Any:
        on_device = device is not None and torch.device(device).type == "cuda"
        if cls is torch.UntypedStorage and on_device and not others:
            if not args or isinstance(args[0], int):
                size = args[0] if args else 0
                return torch.empty(size, dtype=torch.uint8, device=device).untyped_storage()
            return torch.tensor(list(args[0]), dtype=torch.uint8, device=device).untyped_storage()
        given = others if device is None else {**others, "device": device}
        return plain(cls, *args, **given)

    def resize_any(self: torch.UntypedStorage, count: int) -> Any:
        if self.device.type != "cuda":
            return resize(self, count)
        tensors.resize_storage(self, count)
        return self

    _replace(torch.UntypedStorage, __new__=make, resize_=resize_any)
