"""A few instructions run for every element of some arrays, by any engine: what comes out, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from precision_lab.emulator.fast.engine import FastEngine
from precision_lab.emulator.launch import NOMINAL, Choice, Engine, Launch, argument
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel
from precision_lab.emulator.reference.engine import ReferenceEngine

ENGINES: tuple[Engine, ...] = (FastEngine(), FastEngine(optimised=False), ReferenceEngine())
# The plain engine is held to the fast one by every kernel's first launch, too; here it takes its time.
each_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, id=engine.name, marks=[pytest.mark.slow] if engine.name == "reference" else [])
        for engine in ENGINES
    ],
)
BLOCK = 128
SOURCES, RESULTS = "abcdef", "rst"

Array = np.ndarray[Any, Any]


@cache
def kernel(lines: str, sources: tuple[int, ...], results: tuple[str, ...]) -> Kernel:
    """The kernel of `text`."""
    return parse(text(lines, sources, results)).kernels["one"]


def text(lines: str, sources: tuple[int, ...], results: tuple[str, ...], target: str = "sm_100a") -> str:
    """Loads a number of each array into %a, %b, …; executes the lines; stores %r, %s, ….

    Args:
        sources: bits of each; 1 for a predicate, which is loaded from a byte.
        results: "pred", or "b" with the bits of each.
    """
    newline = "\n    "
    parameters, body = [], []
    for k, (name, bits) in enumerate(zip(SOURCES, sources, strict=False)):
        size = max(bits, 8) // 8
        parameters.append(f".param .u64 x{k}")
        register = f".reg .b{max(bits, 8)} %{name if bits > 1 else name + '8'};"
        body.append(f"{register} ld.param.u64 %at, [x{k}]; mad.wide.u32 %at, %n, {size}, %at;")
        body.append(f"ld.global.b{size * 8} %{name if bits > 1 else name + '8'}, [%at];")
        if bits == 1:
            body.append(
                f".reg .pred %{name}; .reg .b16 %{name}16; cvt.u16.u8 %{name}16, %{name}8;"
                f"setp.ne.u16 %{name}, %{name}16, 0;"
            )
    for name, kind in zip(RESULTS, results, strict=False):
        body.append(f".reg .{kind} %{name};")
    body.append(lines)
    for k, (name, kind) in enumerate(zip(RESULTS, results, strict=False)):
        bits = 16 if kind == "pred" else int(kind[1:])
        parameters.append(f".param .u64 y{k}")
        body.append(f"ld.param.u64 %at, [y{k}]; mad.wide.u32 %at, %n, {bits // 8}, %at;")
        if kind == "pred":
            body.append(
                f".reg .b16 %{name}16; selp.b16 %{name}16, 1, 0, %{name}; st.global.b16 [%at], %{name}16;"
            )
        else:
            body.append(f"st.global.b{bits} [%at], %{name};")
    return f"""
.version {"9.0" if target == "sm_100a" else "8.6"}
.target {target}
.address_size 64
.visible .entry one({", ".join(parameters)})
{{
    .reg .b64 %at;
    .reg .b32 %n, %thread, %block, %width;
    mov.u32 %thread, %tid.x;
    mov.u32 %block, %ctaid.x;
    mov.u32 %width, %ntid.x;
    mad.lo.u32 %n, %block, %width, %thread;
    {newline.join(body)}
    ret;
}}"""


def run(
    engine: Engine,
    lines: str,
    sources: Sequence[Array],
    *results: str,
    choice: Choice = NOMINAL,
) -> list[Array]:
    """What the lines leave in %r, %s and %t, for every element of the arrays, which are %a, %b, …

    Args:
        sources: unsigned integers of the registers' width, or bool.
        results: of each, "pred" or "b16" and the like.
    """
    return run_kernel(engine, kernel(lines, widths(sources), results), sources, *results, choice=choice)


def widths(sources: Sequence[Array]) -> tuple[int, ...]:
    """Bits of the arrays' numbers; 1 of a predicate."""
    return tuple(1 if s.dtype == bool else 8 * s.dtype.itemsize for s in sources)


def run_kernel(
    engine: Engine, found: Kernel, sources: Sequence[Array], *results: str, choice: Choice = NOMINAL
) -> list[Array]:
    """As `run`, of a kernel that was made from `text`."""
    n = len(sources[0])
    padded = -(-n // BLOCK) * BLOCK
    memory = Memory.reserve(1 << 26)
    kinds = [np.dtype(np.uint16 if r == "pred" else f"u{int(r[1:]) // 8}") for r in results]
    given = [memory.put(np.resize(s, padded)) for s in sources]
    made = [memory.allocate(padded * k.itemsize) for k in kinds]
    values = argument([*given, *made], [8] * (len(given) + len(made)))
    engine.run(Launch(found, (padded // BLOCK, 1, 1), (BLOCK, 1, 1), values, choice=choice), memory)
    arrays = [memory.get(at, k, n) for at, k in zip(made, kinds, strict=True)]
    return [a.astype(bool) if r == "pred" else a for a, r in zip(arrays, results, strict=True)]
