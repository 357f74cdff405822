"""mamba-ssm 2.3.2.post1: its SwiGLU, a TARGET.

The source distribution is unpacked, not built. `import mamba_ssm` imports kernels that are compiled with
nvcc; the folder of its Triton kernels is a package without them, so the parents are given as empty ones.
"""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from pathlib import Path

import torch


def _package() -> None:
    """`mamba_ssm` with its folder, and nothing of what its `__init__` imports."""
    if "mamba_ssm" not in sys.modules:
        spec = find_spec("mamba_ssm")
        package = types.ModuleType("mamba_ssm")
        package.__path__ = [str(Path(spec.origin).parent)]
        package.__spec__ = spec
        sys.modules["mamba_ssm"] = package


def swiglu(x, b):
    _package()
    from mamba_ssm.ops.triton.k_activations import swiglu

    return swiglu(torch.cat((x.reshape(1, -1), b.expand(x.shape).reshape(1, -1)), dim=-1)).reshape(x.shape)
