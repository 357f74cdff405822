"""What to do next where a kernel was run in the wrong way, by its message, which says more than its code.

The words come from torch, Triton, numpy, JAX and MLX; an old record gets the step of today.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from precision_lab.system.extras import install_line

_RAN = ("raised", "wrong_dtype", "wrong_device", "not_differentiable", "missing_dependency")
# Appended to a message by the room that knows the kernel; read here.
COMPUTES_WITH = "it computes with {framework} and not with torch"


@dataclass(frozen=True)
class _Hint:
    """
    Attributes:
        words: a pattern of the message; its groups fill the step.
        step: what to do, with {0} for the first group, {fmt} for the format that it names, and {emulated} for
            what must be installed first.
    """

    words: re.Pattern[str]
    step: str


def _hint(words: str, step: str) -> _Hint:
    return _Hint(re.compile(words), step)


_ARRAYS = "If it takes arrays of {0}, not tensors, say so: --framework {0} (framework={0!r} in Python)."
_NO_GPU = (
    "The kernel needs a GPU. Without one, execute what its compiler emits: --device sm_90{emulated}; or a "
    "Triton kernel by Triton's interpreter: TRITON_INTERPRET=1 in the environment. On a machine with a GPU: "
    "--device cuda."
)
_FRAMEWORKS = ("numpy", "jax", "mlx")
_FORMATS = {"Double": "fp64", "Float": "fp32", "Half": "fp16"}

_HINTS = (
    _hint(COMPUTES_WITH.format(framework="(numpy|jax|mlx)"), _ARRAYS),
    _hint(r"is a ArrayImpl, not a tensor|valid JAX (?:array )?type", _ARRAYS.replace("0", "jax")),
    _hint(r"mlx\.core|is a array, not a tensor", _ARRAYS.replace("0", "mlx")),
    _hint(
        r"Can't call numpy\(\) on Tensor|Got unsupported ScalarType|is a ndarray, not a tensor",
        _ARRAYS.replace("0", "numpy"),
    ),
    _hint(
        r"Cannot call @triton\.jit'd outside of the scope of a kernel",
        "TARGET is the kernel's device code: name the Python function that launches it, which takes x and "
        "returns y.",
    ),
    _hint(
        r"not compiled with CUDA|NVIDIA driver|No CUDA GPUs|0 active drivers|no CUDA-capable device|"
        r"CUDA_ERROR_NO_DEVICE|is_cuda|(?i:cuda tensor|must be on (?:a )?(?:cuda|gpu))|libcuda\.so|"
        r"cannot be accessed from Triton",
        _NO_GPU,
    ),
    _hint(
        r"expected scalar type (Double|Float|Half)\b",
        "The kernel computes in {fmt} alone: verify it in that format (--format {fmt}), or cast x in the "
        "kernel and its result back.",
    ),
    _hint(
        r"not implemented for '(?:BFloat16|Half|Float8_\w+)'",
        "An operator of the kernel does not have this format: cast x to float32 in the kernel and its result "
        "back, or leave the format out (--format fp32).",
    ),
    _hint(
        r"(?i)\bonly (?:float64|fp64|double)|(?:float64|double) (?:only|required)|must be (?:float64|double)",
        "The kernel takes fp64 alone: verify it in that format (--format fp64), or cast x in the kernel and "
        "its result back.",
    ),
)  # fmt: skip


def hint(code: str, message: str) -> str:
    """The next step that a message about how a kernel ended tells; "" where it tells none."""
    if code not in _RAN:
        return ""
    for each in _HINTS:
        if (found := each.words.search(message)) is not None:
            group = found.group(1) if found.groups() else ""
            names = dict(zip(_FRAMEWORKS, _FRAMEWORKS, strict=True))
            return each.step.format(group, **names, emulated=_to_install(), fmt=_FORMATS.get(group, ""))
    return ""


def _to_install() -> str:
    """What an emulated GPU lacks here, as a clause."""
    if not sys.platform.startswith("linux") or find_spec("triton") is not None:
        return ""
    return f" (after {install_line('emulated')})"
