"""x → certified exact value, or its error certified in passing: float64, double-double, mpmath."""

from __future__ import annotations

from precision_lab.oracle.curve import EDGE, FAR, NEAR, POSITIVE
from precision_lab.oracle.evaluate import evaluate
from precision_lab.oracle.record import TIERS, Reference
from precision_lab.oracle.reference import enclosures, reference

__all__ = ["EDGE", "FAR", "NEAR", "POSITIVE", "TIERS", "Reference", "enclosures", "evaluate", "reference"]
