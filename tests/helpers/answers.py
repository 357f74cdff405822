"""Kernels that answer with the oracle's own rounding, and what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from precision_lab.formats import get_format
from precision_lab.oracle import reference

torch = pytest.importorskip("torch")


def correctly_rounded(fmt_name, function="relu2", params=None, output="forward"):
    """A kernel that answers with the oracle's own rounding: the best there can be."""
    fmt = get_format(fmt_name)

    def kernel(x, **_):
        values = fmt.decode(bits_of(x, fmt))
        rounded = reference(function, output, params or {}, values, fmt).rounded
        return tensor_of(rounded, fmt)

    return kernel


def bits_of(x, fmt):
    return (
        x.detach()
        .view({8: torch.uint8, 16: torch.int16, 32: torch.int32}[fmt.bits])
        .numpy()
        .view(fmt.bits_dtype)
    )


def tensor_of(values, fmt):
    bits = fmt.encode(values)
    signed = {8: np.uint8, 16: np.int16, 32: np.int32}[fmt.bits]
    return torch.from_numpy(bits.view(signed).copy()).view(getattr(torch, fmt.torch_name))
