"""Tensors of the same numbers that lie otherwise in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

View = Callable[[Tensor], Tensor]


def _flipped(t: Tensor) -> Tensor:
    """Rows from their ends; torch's own `flip` knows no FP8."""
    return t[..., torch.arange(t.shape[-1] - 1, -1, -1, device=t.device)]


def every_second(t: Tensor) -> Tensor:
    """The same numbers, beside each of them that of the other end of the row."""
    return torch.stack([t, _flipped(t)], -1).flatten(-2)[..., ::2]


def offset(t: Tensor) -> Tensor:
    """The same numbers from the second element of their memory on."""
    return torch.cat([t.reshape(-1)[-1:], t.reshape(-1)])[1:].view(t.shape)


def left(t: Tensor) -> Tensor:
    """The left half of a wider tensor, whose right half has the rows reversed."""
    return torch.cat([t, _flipped(t)], -1)[..., : t.shape[-1]]


def right(t: Tensor) -> Tensor:
    """The right half of such a tensor."""
    return torch.cat([_flipped(t), t], -1)[..., t.shape[-1] :]
