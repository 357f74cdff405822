"""A formulation, and the executions it is measured in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from precision_lab.devices import CUDA
from precision_lab.formats import BF16, E4M3, FP16, FP32, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation, Kernel
from precision_lab.implementations.inductor import EMULATE_CASTS
from precision_lab.results.execution import COMPILED, EAGER, FP8_BF16, FP8_FP32, UPCAST, Execution

WIDE = (FP32, BF16, FP16)
NARROW = (BF16, FP16)


@dataclass(frozen=True)
class Formulation:
    """One way to write an activation, before it is said how it is executed."""

    name: str
    function: Activation
    kernel: Kernel
    description: str
    compute_dtype: str = "storage"
    parameters: tuple[str, ...] | None = None
    numbers: tuple[str, ...] = ()
    import_line: str = ""


def executions(
    formulations: Iterable[Formulation], *, fp8: bool, compiled: bool = True
) -> Iterator[Implementation]:
    """Every execution of each formulation.

    Eager and compiled in fp32, bf16 and fp16; upcast in the two 16-bit formats (in fp32 it
    is the eager one; a formulation that is wide inside has no use for it); with `fp8` also
    E4M3/E5M2 storage around an fp32 core, saturating and not, and around a bf16 core. For a GPU, where
    Inductor otherwise keeps FP32 between operations, also compiled with every rounding of the eager kernel.
    """
    for f in formulations:
        yield _execution(f, EAGER, WIDE, f.compute_dtype)
        if f.compute_dtype == "storage":
            yield _execution(f, UPCAST, NARROW, "fp32")
        if compiled:
            yield _execution(f, COMPILED, WIDE, "as the compiler chooses")
            yield _execution(f, COMPILED, NARROW, "storage", inductor=EMULATE_CASTS, devices=(CUDA,))
        if fp8:
            yield _execution(f, FP8_FP32, (E4M3,), "fp32")
            yield _execution(f, FP8_FP32, (E4M3,), "fp32", saturating=True)
            yield _execution(f, FP8_BF16, (E4M3,), "bf16", saturating=True)


def _execution(
    f: Formulation,
    execution: Execution,
    formats: tuple[FloatFormat, ...],
    compute: str,
    **more: Any,
) -> Implementation:
    return Implementation(
        name=f.name,
        function=f.function,
        kernel=f.kernel,
        execution=execution,
        formats=formats,
        compute_dtype=compute,
        description=f.description,
        parameters=f.parameters,
        numbers=f.numbers,
        import_line=f.import_line,
        **more,
    )
