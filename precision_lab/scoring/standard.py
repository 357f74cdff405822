"""What the computed values of one output are held to."""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.inputs.cells import Cells
from precision_lab.oracle import Reference, reference
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.curve import Curve
from precision_lab.oracle.record import Float64

NARROW = 16  # bits of a format of which every input's exact value may be certified alone


@dataclass(frozen=True)
class Standard:
    """One output's exact values, and how they are stored.

    Attributes:
        curve: function, output and effective parameter values, taken as exact.
        cells: of the inputs.
        fmt: storage format of the output.
        saturating: overflow goes to the largest finite value instead of infinity or NaN.
        certified: every input's exact value comes alone, of an oracle that compiles nothing.
    """

    curve: Curve
    cells: Cells
    fmt: FloatFormat
    saturating: bool = False
    certified: bool = False

    def reference(self, x: Float64) -> Reference:
        """Certified exact values at these inputs, float64."""
        curve = self.curve
        oracle = certified_reference if self.certified else reference
        return oracle(curve.function, curve.output, curve.params, x, self.fmt, saturating=self.saturating)


def is_certified(function: Activation, source: FloatFormat, target: FloatFormat) -> bool:
    """Whether exact values of a function are taken input by input, of an oracle that compiles nothing.

    That is of narrow formats, for functions of users' files and those without fast tiers: the thousands of
    cases of a report repay what the others take to compile.

    Args:
        source, target: formats of the inputs and of the output.
    """
    if max(source.bits, target.bits) > NARROW:
        return False
    return bool(function.home) or function.sides is None


__all__ = ["NARROW", "Standard", "is_certified"]
