"""PTX executed on a CPU, exactly: what a compiler emitted for a GPU, for every thread, without one.

Nothing here knows torch. `parser` reads PTX into the records of `ptx`; `launch` says what is to be run, on
the `memory` of a device; two engines run it, `reference` and `fast`, which share nothing but these and the
models of approximate instructions. Source of all semantics: NVIDIA, "Parallel Thread Execution ISA".
"""
