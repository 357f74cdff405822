"""What real kernels break beside accuracy: lengths, places, strides, state, upstream gradients, sums.

A property is broken where a result differs from the one the kernel gave for the same input in one
plain call, and is farther from the exact value than the bound allows. Differences within the bound
are notes: an accurate kernel may compute its vector lanes and its tail differently.

This module has the names alone, so that help and checks need no torch; `registry` has the rest.
"""

ENGINEERING_PROPERTIES = (
    "determinism", "unwritten", "lengths", "shapes", "positions", "strides", "sizes", "memory",
    "arguments_kept", "results_kept", "grad_mode", "parameters_fresh", "upstream", "reductions",
    "operands", "training_step", "compilation",
)  # fmt: skip
BUDGET = 1.0  # seconds for the large calls of a format
# Compiling a kernel takes longer than all the rest: that is done where it is asked for.
DEFAULT_PROPERTIES = ENGINEERING_PROPERTIES[:-1]
