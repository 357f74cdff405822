"""Number formats as data, rounding to them, and casts.

The casts (`formats.casts`) are torch's tensors in and out; nothing here imports them.
"""

from precision_lab.formats.float_format import FORMATS, FloatFormat, get_format, output_format

__all__ = ["FORMATS", "FloatFormat", "get_format", "output_format"]
