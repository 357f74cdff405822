"""Counts one tensor of a model, pass by pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.formats.cast_loops import count_cpu
from precision_lab.lowprecision.capture.counts import CHANNEL_BITS, Histogram


class Counter:
    """Counts of one tensor, on the CPU."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._patterns = np.zeros(1 << 16, np.uint64)
        # Bins first: few are met, so that few pages are touched. Rows of a power of two bytes would share a
        # few places in a cache. Of one channel's bins none comes to 2^32.
        self._coarse = np.zeros((1 << CHANNEL_BITS, channels + 16), np.uint32)
        self._amax = np.zeros(channels, np.float32)
        self._odd = np.zeros(2, np.int64)
        self._seen = 0

    def add(self, rows: Tensor, stride: int) -> None:
        self._seen += rows.numel()
        count_cpu(rows, stride, self._patterns, self._coarse, self._amax, self._odd)

    def histogram(self) -> Histogram:
        coarse = self._coarse[:, : self.channels].T
        return _histogram(self._patterns, coarse, self._amax, self._seen, self._odd)


class DeviceCounter:
    """The same on the tensor's own device, where the counts stay until they are asked for."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.channels = channels
        self._patterns = torch.zeros(1 << 16, dtype=torch.int64, device=device)
        self._coarse = torch.zeros(channels << CHANNEL_BITS, dtype=torch.int64, device=device)
        self._amax = torch.zeros(channels, device=device)
        self._odd = torch.zeros(2, dtype=torch.int64, device=device)
        self._seen = 0

    def add(self, rows: Tensor, stride: int) -> None:
        self._seen += rows.numel()
        self._odd += torch.stack([rows.isinf().sum(), rows.isnan().sum()])
        largest = rows.float().abs().nan_to_num(nan=0.0, posinf=0.0).amax(0)
        torch.maximum(self._amax, largest, out=self._amax)
        rows = rows[::stride]
        patterns = rows.bfloat16().contiguous().view(torch.int16).int() & 0xFFFF
        self._patterns += torch.bincount(patterns.reshape(-1), minlength=1 << 16)
        channel = torch.arange(rows.shape[1], dtype=torch.int32, device=rows.device) << CHANNEL_BITS
        coarse = (patterns >> (16 - CHANNEL_BITS)) + channel
        self._coarse += torch.bincount(coarse.reshape(-1), minlength=self._coarse.numel())

    def histogram(self) -> Histogram:
        patterns, coarse, largest, odd = (
            counts.cpu().numpy() for counts in (self._patterns, self._coarse, self._amax, self._odd)
        )
        return _histogram(patterns, coarse.reshape(self.channels, -1), largest, self._seen, odd)


def _histogram(
    patterns: NDArray[Any],
    coarse: NDArray[Any],
    largest: NDArray[np.float32],
    seen: int,
    odd: NDArray[np.int64],
) -> Histogram:
    """Copies of the counts so far."""
    infinite, nan = odd.tolist()
    return Histogram(
        patterns.astype(np.uint64),
        np.array(coarse, np.uint64, order="C"),
        largest.copy(),
        seen,
        infinite,
        nan,
    )


__all__ = ["Counter", "DeviceCounter"]
