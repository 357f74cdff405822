"""Formulas: traced from plain Python, differentiated, written out. What evaluates them is the oracle's."""
