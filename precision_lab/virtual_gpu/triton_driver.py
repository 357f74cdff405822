"""A driver for Triton whose device is the emulated GPU: kernels are compiled as ever, their PTX is executed.

Triton's binder, specialisation, heuristics, hooks and caches stay as they are. The step from PTX to machine
code is taken too, so that a kernel which the assembler refuses is refused here; the machine code is kept.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any, NoReturn

import triton
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.compiler.compiler import CompiledKernel

from precision_lab.emulator.faults import Unsupported
from precision_lab.system.cache_files import cache_directory
from precision_lab.virtual_gpu import autotuning
from precision_lab.virtual_gpu.autotuning import choose, configurations
from precision_lab.virtual_gpu.launching import Argument, Pointer, execute
from precision_lab.virtual_gpu.properties import Properties
from precision_lab.virtual_gpu.triton_arguments import flattened, packed

_REGISTERS = 32  # of each thread, as far as anybody asks


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """What Triton holds for a function of the driver's."""

    name: str
    ptx: str
    shared_bytes: int


class _State:
    """Of this process."""

    loading: CompiledKernel | None = None
    machine_code: dict[str, bytes] = {}  # noqa: RUF012


def machine_code_of(ptx: str) -> bytes | None:
    """The machine code that was assembled from a PTX text; None for one that no kernel launched here has."""
    return _State.machine_code.get(ptx)


class Launcher:
    """Launches one compiled kernel."""

    def __init__(self, src: Any, metadata: Any) -> None:
        self._types = tuple(src.signature.values())
        self._metadata = metadata
        for name, harmless in (("num_ctas", 1), ("launch_cooperative_grid", False)):
            value = getattr(metadata, name, harmless)
            if value != harmless:
                what = "clusters of blocks" if name == "num_ctas" else "blocks that wait for each other"
                raise Unsupported(f"{metadata.name}: {name}={value}: {what} are not emulated")

    def __call__(
        self,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        stream: Any,
        function: _Loaded,
        packed_metadata: Any,
        launch_metadata: Any,
        enter_hook: Any,
        exit_hook: Any,
        *values: Any,
    ) -> None:
        if enter_hook is not None:
            enter_hook(launch_metadata)
        grid = int(grid_x), int(grid_y), int(grid_z)
        blocks = grid[0] * grid[1] * grid[2]
        if blocks > 0:  # as Triton has it, none are no mistake
            given: list[Argument] = [
                packed(function.name, k, kind, value)
                for k, (kind, value) in enumerate(flattened(self._types, values))
            ]
            scratch = self._scratch(blocks, stream)  # held until the kernel has ended
            given += [Pointer(0 if s is None else s.data_ptr()) for s in scratch]
            execute(function.ptx, function.name, grid, None, given, function.shared_bytes)
        if exit_hook is not None:
            exit_hook(launch_metadata)

    def _scratch(self, blocks: int, stream: Any) -> list[Any]:
        """What is passed last: global memory to compute in, and for profilers, by allocators that users set.

        None where the kernel asks for no bytes.
        """
        from triton.runtime import _allocation

        found = []
        for kind, allocator in (("global", "_allocator"), ("profile", "_profile_allocator")):
            size = getattr(self._metadata, f"{kind}_scratch_size", None)
            if size is None:  # before 3.5, the second is not there
                continue
            give = getattr(_allocation, allocator)
            give = give.get() if hasattr(give, "get") else give
            align = getattr(self._metadata, f"{kind}_scratch_align")
            found.append(give(blocks * size, align, stream) if size else None)
        return found


class Utilities:
    """What Triton asks a driver's C module for."""

    def __init__(self, properties: Properties) -> None:
        self._properties = properties

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[Any, ...]:
        loading = _State.loading
        assert loading is not None
        ptx = loading.asm["ptx"]
        _State.machine_code[ptx] = kernel
        loaded = _Loaded(name, ptx, shared)
        return loaded, loaded, _REGISTERS, 0, self._properties.max_threads_per_block

    def unload_module(self, module: Any) -> None:
        pass

    def get_device_properties(self, device: int) -> dict[str, int]:
        p = self._properties
        return {
            "max_shared_mem": p.shared_memory_per_block_optin, "max_num_regs": p.regs_per_multiprocessor,
            "multiprocessor_count": p.multi_processor_count, "warpSize": p.warp_size,
            "sm_clock_rate": p.clock_rate, "mem_clock_rate": p.memory_clock_rate,
            "mem_bus_width": p.memory_bus_width,
        }  # fmt: skip

    def set_printf_fifo_size(self, size: int) -> None:
        pass

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"Triton asks its driver for {name}, which is not emulated")


class Driver(DriverBase):  # type: ignore[misc]
    """The emulated GPU, as Triton's drivers are."""

    properties: Properties  # of the device of this process

    def __init__(self) -> None:
        self.utils = Utilities(self.properties)
        self.launcher_cls = Launcher

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.properties.major * 10 + self.properties.minor, 32)

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return self.properties.major, self.properties.minor

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def map_python_to_cpp_type(self, ty: str) -> str:
        from triton.backends.nvidia import driver

        found: str = driver.ty_to_cpp(ty)
        return found

    def assemble_tensormap_to_arg(self, tensormaps_info: Any, args: Any) -> Any:
        return args

    def get_benchmarker(self) -> Any:
        return autotuning.answered

    def get_empty_cache_for_benchmark(self) -> Any:
        import torch

        return torch.empty(1, dtype=torch.int32, device="cuda")

    def clear_cache(self, cache: Any) -> None:
        cache.zero_()


def activate(properties: Properties) -> None:
    """Makes it Triton's driver in this process."""
    # Not the user's folder: what lies there may have been compiled under other settings.
    folder = cache_directory()
    os.environ["TRITON_CACHE_DIR"] = (
        str(folder / "triton") if folder is not None else tempfile.mkdtemp(prefix="precision_lab_triton_")
    )
    Driver.properties = properties
    driver = Driver()
    config = triton.runtime.driver
    config.set_active(driver)
    config._default = driver
    # Code that asks the backend for its driver gets this one: the other would look for libcuda.
    backends["nvidia"] = dataclasses.replace(backends["nvidia"], driver=Driver)
    initialise = CompiledKernel._init_handles

    def with_its_ptx(self: Any) -> Any:
        autotuning.take_over_inductor()  # which loads all configurations before it tries them
        before, _State.loading = _State.loading, self
        try:
            return initialise(self)
        finally:
            _State.loading = before

    CompiledKernel._init_handles = with_its_ptx
    autotuning.take_over()


__all__ = ["Driver", "activate", "choose", "configurations", "machine_code_of"]
