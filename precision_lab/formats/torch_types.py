"""torch's dtype of each format."""

from __future__ import annotations

import torch

from precision_lab.exceptions import UsageError
from precision_lab.formats.float_format import FloatFormat


def torch_dtype(fmt: FloatFormat) -> torch.dtype:
    """torch's dtype of the format.

    Raises:
        ValueError: there is none.
    """
    if fmt.torch_name is None:
        raise UsageError(f"format {fmt.name!r}: torch has no dtype of it")
    dtype: torch.dtype = getattr(torch, fmt.torch_name)
    return dtype
