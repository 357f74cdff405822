"""Scores what kernels returned on a GPU, kept raw, with the oracle here.

python tests/field/device.py reports/h200/bits.npz.xz

The file holds, for each `function|name|execution|format|output`, or `operator|format|output` for operators
of torch, the 65,536 patterns that were returned for every input pattern in order, at the default parameters
and, for grad_x, an upstream gradient of 1. Operators that are none of the lab's built-in functions have their
formula here.
"""

from __future__ import annotations

import io
import lzma
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import precision_lab as pl
from precision_lab import math
from precision_lab.formats import get_format
from precision_lab.functions import FUNCTIONS, Activation
from precision_lab.measuring.measure import measure
from precision_lab.results import Measurement


class _Replayed(torch.autograd.Function):
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
            return _Replayed.apply(x, value, slope)

        for each in ("forward", "grad_x"):
            m = measure(kernel, function, fmt=get_format(fmt).name, output=each)
            found.append((f"{function} | {name} [{execution}] | {fmt} | {each}", m))
    return found


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "asinh": lambda x: math.where(
        x < 0, -math.log(math.sqrt(x**2 + 1) - x), math.log(math.sqrt(x**2 + 1) + x)
    ),
    "atan": math.atan, "cos": math.cos, "cosh": math.cosh, "erfc": math.erfc, "log": math.log,
    "log2": lambda x: math.log(x) / math.log(2), "reciprocal": lambda x: 1 / x, "sin": math.sin,
    "sinh": math.sinh, "sqrt": math.sqrt, "square": lambda x: x**2, "tan": math.tan,
}  # fmt: skip
# torch's default is the function with a threshold.
NAMES = {"softplus": "softplus_torch"}
# These operators round their numbers to the storage format; the others compute with them in FP32.
ROUNDED = ("threshold", "hardshrink", "softshrink")


def definition(operator: str) -> Activation:
    if operator in FORMULAS:
        written = FORMULAS[operator]
        none = (float("nan"), float("nan"))
        limits = dict.fromkeys(("forward", "grad_x"), none) if operator in ("sin", "cos", "tan") else {}
        return pl.activation(name=operator, limits=limits)(lambda x: written(x))
    return FUNCTIONS[NAMES.get(operator, operator)]


def replayed(forward: np.ndarray, gradient: np.ndarray) -> Callable[[Any], Any]:
    """A kernel that returns what was recorded; it takes no parameters, which are numbers of the operator."""
    return lambda x: _Replayed.apply(x, torch.from_numpy(forward), torch.from_numpy(gradient))


def scored_operators(tables: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Measurement]]:
    """Both outputs of every operator."""
    for key in tables:
        operator, name, output = key.split("|")
        if output == "grad_x":
            continue
        function, fmt = definition(operator), get_format(name)
        kernel = replayed(*(tables[f"{operator}|{name}|{o}"] for o in ("forward", "grad_x")))
        params = dict(function.check_params())
        if operator in ROUNDED:
            params = {p: float(fmt.round(np.array([v]))[0]) for p, v in params.items()}
        for o in ("forward", "grad_x"):
            m = measure(kernel, function, fmt=fmt, output=o, params=params)
            yield f"{operator} | {name} | {o}", m


def row(what: str, m: Measurement) -> str:
    at = m.witness.x_hex if m.witness else "–"
    return (
        f"| {what} | {m.max_ulp:.4g} | {at} | {m.wrong_sign:,} | {m.nonfinite_mismatch:,} | {m.undecided:,} |"
    )


if __name__ == "__main__":
    found = recorded(Path(sys.argv[1]))
    operators = all(key.count("|") == 2 for key in found)
    names = "operator | format | output" if operators else "function | kernel | format | output"
    print(f"| {names} | largest error, ulps | at x | wrong sign | inf/NaN misplaced | undecided |")
    print("|---" * (names.count("|") + 1) + "|--:" * 5 + "|")
    for what, m in scored_operators(found) if operators else scored(found):
        print(row(what, m), flush=True)
