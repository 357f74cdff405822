"""xSiLU: SiLU with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.expanded import expanded
from precision_lab.functions.silu import SILU

XSILU = expanded(SILU, place="equation 4")
