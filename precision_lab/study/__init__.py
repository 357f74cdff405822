"""Which cases a report measures, and what it measures besides errors: time, sums, conversions, blocks."""
