"""The CUDA source of the oracle's first tier, compiled as C++ for this machine: one thread per block."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from precision_lab.scoring.cuda_scorer import source

COMPILER = shutil.which("g++") or shutil.which("clang++")


class HostProgram:
    """Runs the blocks of a kernel one after the other; arguments as `nvrtc.CudaProgram` takes them."""

    def __init__(self, folder: Path) -> None:
        assert COMPILER is not None
        text, library = folder / "score.cu", folder / "score.so"
        text.write_text(source(), encoding="utf-8")
        # No contraction, as --fmad=false: every operation rounds once.
        options = ["-DHOST", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-x", "c++"]
        subprocess.run([COMPILER, *options, str(text), "-o", str(library), "-lm"], check=True)
        self._library = ctypes.CDLL(str(library))
        self._block = ctypes.c_int.in_dll(self._library, "blockIdx")

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        kernel = getattr(self._library, name)
        kernel.restype = None
        given = [
            ctypes.c_void_p(a.data_ptr() if isinstance(a, torch.Tensor) else a)
            if a is None or isinstance(a, torch.Tensor)
            else ctypes.c_int64(a)
            for a in arguments
        ]
        # `settle` has a thread per tile, `score_tiles` a block; either is one call here.
        for block in range(arguments[0] if name == "settle" else blocks):
            self._block.value = block
            kernel(*given)
