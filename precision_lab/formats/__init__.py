"""Number formats as data, rounding to them, and casts.

The casts (`formats.casts`) are torch's tensors in and out; nothing here imports them.
"""

from precision_lab.formats.float_format import (
    FORMATS,
    KERNEL_FORMATS,
    FloatFormat,
    get_format,
    kernel_format,
    output_format,
)

FP64, FP32, BF16, FP16 = (FORMATS[name] for name in ("fp64", "fp32", "bf16", "fp16"))
E4M3, E5M2, E2M1 = (FORMATS[name] for name in ("e4m3", "e5m2", "e2m1"))

__all__ = [
    "BF16",
    "E2M1",
    "E4M3",
    "E5M2",
    "FORMATS",
    "FP16",
    "FP32",
    "FP64",
    "KERNEL_FORMATS",
    "FloatFormat",
    "get_format",
    "kernel_format",
    "output_format",
]
