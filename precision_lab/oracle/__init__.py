"""x → certified exact value: the ladder from float64 over double-double to mpmath."""

from __future__ import annotations

from precision_lab.oracle.evaluate import evaluate
from precision_lab.oracle.ladder import TIERS, Reference, enclosures, reference

__all__ = ["TIERS", "Reference", "enclosures", "evaluate", "reference"]
