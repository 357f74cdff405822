"""Scores what kernels returned on a GPU, kept raw, with the oracle here.

python tests/field/device.py reports/h200/bits.npz.xz

The file holds, for each `function|name|execution|format|output`, the 65,536 patterns that a kernel returned
for every input pattern in order, at the default parameters and, for grad_x, an upstream gradient of 1.
"""

from __future__ import annotations

import io
import lzma
import sys
from pathlib import Path

import numpy as np
import torch

from precision_lab.formats import get_format
from precision_lab.measuring.measure import measure
from precision_lab.results import Measurement


class Replayed(torch.autograd.Function):
    """A kernel that looks its result, and its gradient, up in what was recorded."""

    @staticmethod
    def forward(ctx, x, value, slope):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, slope)
        return value[x.view(torch.int16).int() & 0xFFFF].view(x.dtype)

    @staticmethod
    def backward(ctx, dy):  # type: ignore[no-untyped-def]
        x, slope = ctx.saved_tensors
        return slope[x.view(torch.int16).int() & 0xFFFF].view(x.dtype), None, None


def recorded(path: Path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as found:
        return {key: found[key] for key in found.files}


def scored(tables: dict[str, np.ndarray]) -> list[tuple[str, Measurement]]:
    found = []
    for key in tables:
        function, name, execution, fmt, output = key.split("|")
        if output == "grad_x":
            continue
        value, slope = (
            torch.from_numpy(tables[key.rsplit("|", 1)[0] + f"|{o}"]) for o in ("forward", "grad_x")
        )

        def kernel(x, *, value=value, slope=slope, **_):  # type: ignore[no-untyped-def]
            return Replayed.apply(x, value, slope)

        for each in ("forward", "grad_x"):
            m = measure(kernel, function, fmt=get_format(fmt).name, output=each)
            found.append((f"{function} | {name} [{execution}] | {fmt} | {each}", m))
    return found


if __name__ == "__main__":
    print(
        "| function | kernel | format | output | largest error, ulps | at x "
        "| wrong sign | inf/NaN misplaced |"
    )
    print("|---|---|---|---|--:|--:|--:|--:|")
    for what, m in scored(recorded(Path(sys.argv[1]))):
        at = m.witness.x_hex if m.witness else "–"
        print(f"| {what} | {m.max_ulp:.4g} | {at} | {m.wrong_sign:,} | {m.nonfinite_mismatch:,} |")
