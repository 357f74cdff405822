"""An engine that gives, of every stored number, a range that holds what each conforming device may store.

Where an approximate instruction has too many allowed results for all to be tried (`approximate`), the two
extreme ones are kept and everything that is computed from them is computed for ranges. The instructions
themselves are the reference engine's: here stands only which of them are monotone.
"""
