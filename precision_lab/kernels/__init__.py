"""The lab's own accurate kernels, judged like anybody's."""

from __future__ import annotations

from precision_lab.kernels.stable import stable_xielu, stable_xiprelu

__all__ = ["stable_xielu", "stable_xiprelu"]
