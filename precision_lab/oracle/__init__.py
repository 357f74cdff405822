"""x → certified exact value: the ladder from float64 over double-double to mpmath."""

from __future__ import annotations

from precision_lab.oracle.evaluate import evaluate

__all__ = ["evaluate"]
