"""Computed values against certified ones: errors in ulps, counts, statistics."""
