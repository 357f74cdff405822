"""The inputs of one case: their bits in the order the kernel gets them, and the cells they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.inputs.cells import Cells, cells
from precision_lab.inputs.sets import input_set

Inputs = str | NDArray[Any]  # "exhaustive", "stratified", "stratified:N", or float64 values


@dataclass(frozen=True)
class Points:
    """A named set of inputs.

    Attributes:
        bits: None for every pattern of a format too wide to list.
        order: indices that put `bits` in ascending order; None where they are already.
    """

    name: str
    cells: Cells
    bits: NDArray[Any] | None
    order: NDArray[np.intp] | None
    size: int


def default_inputs(fmt: FloatFormat) -> str:
    """Every input where that is at most 2^16 of them, stratified otherwise."""
    return "exhaustive" if fmt.bits <= 16 else "stratified"


def points(
    inputs: Inputs | None,
    fmt: FloatFormat,
    function: Activation,
    params: Mapping[str, float],
    *,
    finite: bool = False,
) -> Points:
    """The inputs asked for, cut into cells.

    Args:
        inputs: None for `default_inputs`.
        params: effective values: regions lie around the roots that they give the function.
        finite: without infinities and NaN.

    Raises:
        ValueError: an input set that the format does not have.
    """
    spec = default_inputs(fmt) if inputs is None else inputs
    found = cells(fmt, function, params)
    if isinstance(spec, str) and spec == "exhaustive" and fmt.bits == 32:
        count = (1 << 32) - (1 << 24) if finite else 1 << 32
        return Points(f"{spec}, finite" if finite else spec, found, None, None, count)
    name, bits = input_set(spec, fmt, function, params)
    if finite:
        name, bits = f"{name}, finite", bits[np.isfinite(fmt.decode(bits))]
    ascending = bool((np.diff(bits.astype(np.uint64)).astype(np.int64) > 0).all())
    return Points(name, found, bits, None if ascending else np.argsort(bits, kind="stable"), bits.size)
