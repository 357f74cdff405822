"""Machine code executed from the disassembler's text: every thread is a lane of numpy arrays.

NVIDIA documents what SASS instructions are called, not what they compute. What is written here was inferred,
and is held to the PTX engines by machine code that ptxas makes of PTX (`docs/machine-code.md`).
"""
