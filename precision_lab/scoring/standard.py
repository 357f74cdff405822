"""What the computed values of one output are held to."""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.formats import FloatFormat
from precision_lab.inputs.cells import Cells
from precision_lab.oracle import Reference, reference
from precision_lab.oracle.program import Curve
from precision_lab.oracle.reference import Float64


@dataclass(frozen=True)
class Standard:
    """One output's exact values, and how they are stored.

    Attributes:
        curve: function, output and effective parameter values, taken as exact.
        cells: of the inputs.
        fmt: storage format of the output.
        saturating: overflow goes to the largest finite value instead of infinity or NaN.
    """

    curve: Curve
    cells: Cells
    fmt: FloatFormat
    saturating: bool = False

    def reference(self, x: Float64) -> Reference:
        """Certified exact values at these inputs, float64."""
        curve = self.curve
        return reference(curve.function, curve.output, curve.params, x, self.fmt, saturating=self.saturating)
