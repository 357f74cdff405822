"""The lab's own accurate kernels, judged like anybody's."""

from __future__ import annotations

from precision_lab.kernels.modules import XIELU, XIPReLU
from precision_lab.kernels.operators import xielu, xiprelu
from precision_lab.kernels.stable import stable_xielu, stable_xiprelu

__all__ = ["XIELU", "XIPReLU", "stable_xielu", "stable_xiprelu", "xielu", "xiprelu"]
