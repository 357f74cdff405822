"""torch's CUDA device 0 without a GPU: tensors in host memory, and kernels executed by their PTX.

`install.install` makes the device in this process, for good; nothing here imports torch before that.
"""

from __future__ import annotations

import sys


def is_installed() -> bool:
    """Whether torch's CUDA device is an emulated one in this process."""
    tensors = sys.modules.get("precision_lab.virtual_gpu.tensors")
    return tensors is not None and tensors.is_installed()
