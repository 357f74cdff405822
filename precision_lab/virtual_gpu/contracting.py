"""Which products and sums of a kernel its own machine code computes in one step.

PTX leaves that to the assembler. What it did is read off the machine code that the compiler made of this very
PTX (`emulator.contraction_verdict`); where that decides nothing, the kernel is two: with none of them fused,
and with those that assemblers usually fuse.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

from precision_lab.emulator import contraction
from precision_lab.emulator.contraction import contracted, usual
from precision_lab.emulator.contraction_verdict import Contraction, verdict
from precision_lab.emulator.machine_code import assemblers
from precision_lab.emulator.products import candidates
from precision_lab.emulator.ptx import Kernel
from precision_lab.exceptions import MissingPackageError
from precision_lab.system.cache_files import cache_directory, read_checked, source_digest, write_checked

# Each has the machine code of what it compiled; which of them did is not known here.
_COMPILERS = ("precision_lab.virtual_gpu.triton_driver", "precision_lab.numeric.nvrtc")


def ways(kernel: Kernel, ptx: str) -> tuple[tuple[Kernel, ...], str]:
    """The kernel as machine code has it, in one way or two, the usual one first; and why it is two.

    Args:
        ptx: the text that the kernel is from.
    """
    if not candidates(kernel):
        return (kernel,), ""
    found = _known(ptx, kernel)
    kernels = tuple(contracted(kernel, pairs) if pairs else kernel for pairs in reversed(found.choices))
    return kernels, found.reason if len(kernels) > 1 else ""


def _known(ptx: str, kernel: Kernel) -> Contraction:
    """The verdict: from the cache, where there is one of the same text and machine code."""
    code = machine_code_of(ptx)
    digest = hashlib.sha256()
    tools = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in assemblers()]
    for part in (ptx, kernel.name, code.hex() if code else "", *tools, _stamp()):
        digest.update(part.encode() + b"\0")
    key, folder = digest.hexdigest(), cache_directory()
    path = None if folder is None else folder / "contraction" / key
    stored = None if path is None else read_checked(path, key)
    if stored is not None:
        given = json.loads(stored)
        return Contraction(given["kind"], tuple(tuple(pair) for pair in given["pairs"]), given["reason"])
    try:
        found = verdict(ptx, kernel.name, code)
    except MissingPackageError as error:
        return Contraction("unknown", usual(kernel), str(error))
    if path is not None:
        write_checked(path, key, json.dumps(asdict(found)).encode())
    return found


def machine_code_of(ptx: str) -> bytes | None:
    """What the compiler made of a PTX text that it compiled in this process; None of any other."""
    for name in _COMPILERS:
        module = sys.modules.get(name)
        code: bytes | None = None if module is None else module.machine_code_of(ptx)
        if code is not None:
            return code
    return None


@cache
def _stamp() -> str:
    return source_digest(Path(contraction.__file__).parent)
