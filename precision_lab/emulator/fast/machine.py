"""LLVM's assembly language → machine code in this process, kept on disk for the next."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from precision_lab.emulator.fast.translate import Program
from precision_lab.system.cache_files import cache_directory, read_checked, source_digest, write_checked
from precision_lab.system.ieee import require

# launch, parameters, functions, choice, variables, result, first and last block → 1 for a fault.
RUN = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 6, ctypes.c_int64, ctypes.c_int64)
_LOCK = threading.Lock()  # LLVM's global state


class Code:
    """Machine code of one kernel.

    Args:
        optimised: whether LLVM takes its time over it; else it takes a twentieth of that, and the code is two
            to eight times as slow.

    Attributes:
        run: the function; it lives as long as this object.
    """

    def __init__(self, program: Program, *, optimised: bool = True) -> None:
        with _LOCK:
            self._engine, self._keep = _loaded(program.text, optimised)
            self.run: Any = RUN(self._engine.get_function_address("run"))


@lru_cache(maxsize=1)
def _source() -> str:
    return source_digest(Path(__file__).parent)


@lru_cache(maxsize=1)
def _started() -> tuple[str, str, str]:
    """LLVM made ready; the triple, the processor and its features."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features


def _machine(optimised: bool) -> Any:
    triple, processor, features = _started()
    target = llvm.Target.from_triple(triple)
    # No contraction: where nothing says "contract", LLVM makes no fma of a product and a sum.
    return target.create_target_machine(
        cpu=processor, features=features, opt=2 if optimised else 0, reloc="default", codemodel="jitdefault",
        jit=True,
    )  # fmt: skip


def _loaded(text: str, optimised: bool) -> tuple[Any, Any]:
    """An execution engine with the text's code: as it was kept on disk, or made now."""
    place = _place(text, optimised)
    kept = None if place is None else read_checked(*place)
    machine = _machine(optimised)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    if kept is None:
        require("The kernel was not compiled")  # constants are folded in this thread
        module = llvm.parse_assembly(text)
        module.triple = _started()[0]
        module.verify()
        if optimised:
            options = llvm.create_pipeline_tuning_options(speed_level=2)
            options.slp_vectorization = True
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        kept = machine.emit_object(module)
        if place is not None:
            write_checked(*place, kept)
    object_file = llvm.ObjectFileRef.from_data(kept)
    engine.add_object_file(object_file)
    engine.finalize_object()
    return engine, object_file


def _place(text: str, optimised: bool) -> tuple[Path, str] | None:
    folder = cache_directory()
    if folder is None:
        return None
    made_by = f"{_source()} {llvmlite.__version__} {llvm.llvm_version_info} {' '.join(_started())}"
    key = f"{made_by} {'optimised' if optimised else 'quick'} {text}"
    return folder / "kernels" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.code", key
