"""The plain engine: every thread of some blocks is a lane of numpy arrays, and an instruction is a few lines.

To be read beside the PTX manual. It sees everything that can be wrong with an access; `fast` is for speed.
"""
