"""xGELU: GELU with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.expanded import expanded
from precision_lab.functions.gelu import GELU

XGELU = expanded(GELU)
