"""Verdicts: what was promised, what was examined, what was found."""
