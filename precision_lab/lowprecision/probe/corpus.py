"""Text for the training probe: Python's own help on its language, which comes with Python."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HELD_OUT = 0.1  # the last part of the text, never trained on


@lru_cache(maxsize=1)
def text() -> NDArray[np.uint8]:
    """The topics of `help()`, one after the other in the order of their names, as UTF-8 bytes."""
    from pydoc_data.topics import topics

    return np.frombuffer("\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8)


def digest() -> str:
    """SHA-256 of the text, which differs between versions of Python."""
    return hashlib.sha256(text().tobytes()).hexdigest()


def _part(held_out: bool) -> NDArray[np.uint8]:
    data = text()
    edge = int(data.size * (1 - HELD_OUT))
    return data[edge:] if held_out else data[:edge]


def pieces_up_to() -> int:
    """The longest piece, in bytes, that the held-out text has."""
    return _part(True).size - 2


def batch(seed: int, step: int, size: int, context: int, *, held_out: bool = False) -> tuple[Tensor, Tensor]:
    """Pieces of the text and the bytes that follow each byte; the same for the same arguments.

    Args:
        size: pieces.
        context: bytes of a piece.

    Returns:
        int64, shape (size, context) each.
    """
    data = _part(held_out)
    starts = np.random.default_rng((seed, step, held_out)).integers(0, data.size - context - 1, size)
    pieces = torch.from_numpy(np.stack([data[s : s + context + 1] for s in starts]).astype(np.int64))
    return pieces[:, :-1], pieces[:, 1:]


__all__ = ["batch", "digest", "text"]
