"""The fast engine: PTX made into machine code of this processor, one GPU thread after the other on a core.

It executes kernels without shared memory, shuffles, votes and atomics; at a barrier threads are put aside.
What it does not execute raises `Unsupported` before anything runs. It shares with the reference engine the
parser, the memory and the models of approximate instructions, and nothing else.
"""
