"""`python -m precision_lab.oracle.worker BASIS`: float64 inputs on stdin, enclosures on stdout."""

from __future__ import annotations

import sys

import numpy as np

from precision_lab.oracle.cache import compute_chunk


def main() -> None:
    """Write high, low and radius of the named basis function, each as float64 of the inputs' count."""
    x = np.frombuffer(sys.stdin.buffer.read(), np.float64)
    sys.stdout.buffer.write(np.ascontiguousarray(compute_chunk(sys.argv[1], x.tolist())).tobytes())


if __name__ == "__main__":
    main()
