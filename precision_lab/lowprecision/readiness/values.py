"""An activation at every BF16 number: exact values, certified, and what a kernel makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, FP32, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation
from precision_lab.oracle import reference
from precision_lab.results import Failure
from precision_lab.running.case import Case, case_of
from precision_lab.running.runner import run

Float64 = NDArray[np.float64]
Params = tuple[tuple[str, float], ...]


def linear_params(function: Activation, params: Params | Mapping[str, float]) -> dict[str, float]:
    """Parameters of the activation alone: the second input of a gated one is a factor of its own, 1 here."""
    return {**dict(params), **{operand.name: 1.0 for operand in function.operands}}


@lru_cache(maxsize=64)
def exact_table(function: Activation, output: str, params: Params) -> Float64:
    """An output at every bf16 number, by bit pattern, to about float64 precision; for a gate of 1.

    Raises:
        ValueError: as `oracle.reference`.
    """
    return exact_at(function, output, params, BF16.decode(BF16.all_bits()))


def exact_at(function: Activation, output: str, params: Params, x: Float64) -> Float64:
    """An output at these numbers, unrounded."""
    points, where = np.unique(x, return_inverse=True)
    exact = reference(function, output, linear_params(function, params), points, "fp64").exact
    found: Float64 = exact[where.reshape(x.shape)]
    return found


def computed_at(kernel: Implementation, output: str, params: Params, x: Float64) -> Float64:
    """What a kernel computes in FP32 for these FP32 numbers.

    Raises:
        KernelError: the implementation failed.
    """
    points, where = np.unique(x, return_inverse=True)
    return _run(_case(kernel, output, params, FP32), points)[where.reshape(x.shape)]


@lru_cache(maxsize=64)
def computed_table(kernel: Implementation, output: str, params: Params, fmt: FloatFormat) -> Float64:
    """What a kernel computes for every bf16 number, in fp32 or bf16, by bit pattern.

    Raises:
        KernelError: the implementation failed.
    """
    return _run(_case(kernel, output, params, fmt), BF16.decode(BF16.all_bits()))


def _case(kernel: Implementation, output: str, params: Params, fmt: FloatFormat) -> Case:
    return case_of(kernel, fmt, linear_params(kernel.function, params), (output,))


def _run(case: Case, x: Float64) -> Float64:
    found = run(case, x)[case.outputs[0]]
    if isinstance(found, Failure):
        raise KernelError(found.kind, found.message)
    return found.astype(np.float64)


__all__ = ["Params", "computed_at", "computed_table", "exact_at", "exact_table", "linear_params"]
