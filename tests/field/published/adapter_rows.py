"""Rows for kernels that have a program for each: whatever is handed to an adapter, in any length."""

from __future__ import annotations

import math

WIDTH = 1024  # columns of a row, where the length allows
LONG = 1 << 17


def rows(x):
    """Rows of up to 1024 columns.

    Lengths have few widths, for each of which kernels are compiled; an odd one has one column. Of a long one
    that would be a program, of some hundred threads, for each element.
    """
    n = x.numel()
    width = math.gcd(n, WIDTH)
    if n > LONG and width < WIDTH:
        width = next(d for d in range(WIDTH, 0, -1) if n % d == 0)
    return x.reshape(-1, width)


def halves(x, b):
    """Rows with x in the first half and b, which may be one number, in the second."""
    import torch

    return torch.cat((rows(x), rows(b.expand(x.shape))), dim=-1)
