"""Makes torch's CUDA device 0 of host memory, and Triton's launches executions of their PTX."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from precision_lab.exceptions import UsageError
from precision_lab.virtual_gpu.properties import properties

# By environment, as threads of autograd do not see Inductor's settings: it is not to launch kernels past
# Triton's driver, to compile them in processes that know of no device, or to remember of all configurations
# only the one that another process has taken.
_INDUCTOR = {
    "TORCHINDUCTOR_USE_STATIC_CUDA_LAUNCHER": "0",
    "TORCHINDUCTOR_USE_STATIC_TRITON_LAUNCHER": "0",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}


class _State:
    """Of this process, which is one device's."""

    target: str | None = None


def installed_target() -> str | None:
    """What the device of this process is called; None where there is none."""
    return _State.target


def install(target: str) -> None:
    """Makes the device, for this process's whole life; torch may have been imported, and nothing run yet.

    Args:
        target: such as "sm_90".

    Raises:
        ValueError: no compiler knows the target, the process has a device already, or kernels would be
            interpreted.
        MissingPackageError: there is no C++ compiler.
    """
    if _State.target == target:
        return
    if _State.target is not None:
        raise UsageError(f"device={target!r}: this process is {_State.target} already, for its whole life")
    if not sys.platform.startswith("linux"):
        raise UsageError(f"device={target!r}: GPUs are emulated on Linux only")
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y"):
        raise UsageError(
            f"device={target!r}: TRITON_INTERPRET={os.environ['TRITON_INTERPRET']} makes Triton interpret "
            "kernels, and what is interpreted says nothing of what is compiled; unset it"
        )
    from precision_lab.emulator.memory import SIZE

    found = properties(target, SIZE)
    os.environ.update(_INDUCTOR)
    import torch

    if torch.version.hip is not None:
        raise UsageError(f"device={target!r}: torch {torch.__version__} is built for AMD's GPUs")
    from precision_lab.virtual_gpu import tensors, torch_cuda

    tensors.begin()
    torch_cuda.pretend(found)
    if find_spec("triton") is not None:
        from precision_lab.virtual_gpu import triton_driver

        triton_driver.activate(found)
    _State.target = target
