"""xATLU: ATLU with its gradient range widened to (−α, 1 + α)."""

from __future__ import annotations

from precision_lab.functions.atlu import ATLU
from precision_lab.functions.expanded import expanded

XATLU = expanded(ATLU)
